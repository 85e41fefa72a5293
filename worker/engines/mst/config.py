"""What the settings say about the engine ``mst``."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from worker.engines.mst.endpoint import Endpoint

if TYPE_CHECKING:
    from worker.settings import Settings

NO_MODEL = "none"


@dataclass(frozen=True)
class MstConfig:
    """The models are folders or names on the hub."""

    device: str
    whisper_model: str
    sentence_model: str
    entity_model: str
    entity_threshold: float
    correction_model: str
    diarization_model: str
    introduction_model: str
    similar_names_model: str
    topic_model: str
    embedding_model: str  # of the language model's server; empty: correction_model, in this process
    min_topic_sentences: int
    stock: bool
    llm: Endpoint
    llm_timeout_s: float
    llm_retries: int
    hf_token: str = field(default="", repr=False)

    @property
    def has_diarization(self) -> bool:
        return self.diarization_model != NO_MODEL

    @classmethod
    def from_settings(cls, settings: Settings) -> MstConfig:
        return cls(
            device=settings.device,
            whisper_model=settings.whisper_model,
            sentence_model=settings.sentence_model,
            entity_model=settings.entity_model,
            entity_threshold=settings.entity_threshold,
            correction_model=settings.correction_model,
            diarization_model=settings.diarization_model,
            introduction_model=settings.introduction_model,
            similar_names_model=settings.similar_names_model,
            topic_model=settings.topic_model,
            embedding_model=settings.embedding_model,
            min_topic_sentences=settings.min_topic_sentences,
            stock=settings.mst_stock,
            llm=Endpoint.from_settings(settings),
            llm_timeout_s=settings.llm_timeout_s,
            llm_retries=settings.llm_retries,
            hf_token=settings.hf_token.get_secret_value() if settings.hf_token else "",
        )


def model_id(model: str) -> str:
    """Tells models apart: a folder may hold other weights tomorrow."""
    folder = Path(model)
    if not folder.is_dir():
        return model  # the hub's: its name is the hub's promise
    files = [file.stat() for file in folder.rglob("*") if file.is_file()]
    newest = max((file.st_mtime_ns for file in files), default=0)
    return f"{folder.name}:{sum(file.st_size for file in files)}:{newest}"


def is_installed() -> bool:
    """Whether the package is there; importing it may still fail."""
    return all(importlib.util.find_spec(name) for name in ("mst", "treeseg"))


def unconfigured(settings: Settings) -> str | None:
    """What the engine lacks to be worth a try, for a reader; None where it lacks nothing."""
    model = settings.diarization_model
    if settings.hf_token is None and model != NO_MODEL and not Path(model).is_dir():
        return f"HF_TOKEN is not set, which {model} needs (or set DIARIZATION_MODEL to a folder, or to none)"
    return None
