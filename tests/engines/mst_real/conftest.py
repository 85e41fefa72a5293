"""For a Python that has multistep-transcriber (``make test-mst``); any other collects nothing here."""

from __future__ import annotations

import importlib.util
import os

# Before pyannote.audio is imported anywhere: it tells its makers of every run.
os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

collect_ignore_glob = [] if importlib.util.find_spec("mst") else ["test_*.py"]
