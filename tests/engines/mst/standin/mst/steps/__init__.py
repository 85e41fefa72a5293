"""The steps by name, as the original gathers them."""

from .caching import (
    cached_file as cached_file,
)
from .caching import (
    cached_file_object as cached_file_object,
)
from .caching import (
    clear_cache_directory as clear_cache_directory,
)
from .caching import (
    get_cache_file as get_cache_file,
)
from .caching import (
    load_object_file as load_object_file,
)
from .caching import (
    load_text_file as load_text_file,
)
from .diarization import identify_speakers as identify_speakers
from .entities import extract_nouns as extract_nouns
from .entities import extract_persons as extract_persons
from .format import format_markdown as format_markdown
from .format import format_transcript as format_transcript
from .helpers import (
    compress_transcript as compress_transcript,
)
from .helpers import (
    map_speakers as map_speakers,
)
from .helpers import (
    merge_transcript_diarization as merge_transcript_diarization,
)
from .introductions import (
    create_speaker_map as create_speaker_map,
)
from .introductions import (
    find_introductions as find_introductions,
)
from .merge_sentences import merge_transcript_segments as merge_transcript_segments
from .standardize import correct_transcript as correct_transcript
from .topic_segmentation import (
    prepare_and_generate_headlines as prepare_and_generate_headlines,
)
from .topic_segmentation import (
    prepare_and_generate_summary as prepare_and_generate_summary,
)
from .topic_segmentation import (
    segment_topics as segment_topics,
)
from .transcription import initial_transcription as initial_transcription
