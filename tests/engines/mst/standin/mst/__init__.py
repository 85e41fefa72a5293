"""A stand-in for multistep-transcriber 0.1.0: its contract and its defects, without its models.

Each defect carries the number it has in docs/engine-mst.md.
"""

from .config import TranscriberConfig as TranscriberConfig
from .video_transcriber import VideoTranscriber as VideoTranscriber

__version__ = "0.1.0"
