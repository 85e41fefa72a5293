"""mst's modules, and the models of its steps: loaded once a process, by mst's own functions."""

from __future__ import annotations

import gc
import importlib
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from worker.engines.mst.config import is_installed
from worker.engines.mst.failures import require_room
from worker.engines.mst.lane import quiet
from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, MutableMapping

    from worker.engines.mst.config import MstConfig

_STEPS = (
    "transcription",
    "merge_sentences",
    "entities",
    "standardize",
    "diarization",
    "introductions",
    "helpers",
)
# Those that results depend on; a result of other versions is not gone on with.
_PACKAGES = (
    "multistep-transcriber",
    "topic-treeseg",
    "spacy",
    "gliner",
    "sentence-transformers",
    "setfit",
    "pyannote.audio",
)
_BATCH_SIZES = ("segmentation_batch_size", "embedding_batch_size")
_NOT_FOR_SENTENCES = ["ner", "lemmatizer", "tagger", "attribute_ruler"]  # half of the time


@dataclass
class Models:
    """mst's modules, its configuration, and the loaded models."""

    mst: SimpleNamespace
    config: Any = field(repr=False)  # mst.TranscriberConfig; it has the token
    device: str
    sentences: Any  # spacy.Language
    entities: Any  # gliner.GLiNER
    words: Any  # sentence_transformers.SentenceTransformer
    diarization: Any | None  # pyannote.audio.Pipeline
    introductions: Any  # setfit.SetFitModel
    batch: int = 32  # sentences that the models of entities and of words take at a time

    def move_to(self, device: str) -> None:
        import torch  # noqa: PLC0415  the child's alone

        self.device = device
        for model in (self.entities, self.words, self.introductions):
            model.to(device)
        if self.diarization is not None:
            self.diarization.to(torch.device(device))
        _give_back()

    def shrink_batches(self) -> bool:
        """Half of all batches; False where they are the smallest already."""
        sizes = [(self, "batch")] + [(self.diarization, name) for name in _BATCH_SIZES if self.diarization]
        larger = [(owner, name, size) for owner, name in sizes if (size := getattr(owner, name)) > 1]
        for owner, name, size in larger:
            setattr(owner, name, size // 2)
        _give_back()
        return bool(larger)


def load_models(config: MstConfig) -> Models:
    """Raises EngineUnavailable, which names what is missing and what to set; OutOfGpuMemory."""
    with quiet():
        mst = _import_mst()
        device = _device(config.device)
        with _only(device):
            return _load_all(mst, device, config)


def _load_all(mst: SimpleNamespace, device: str, config: MstConfig) -> Models:
    told = _told(mst, config)
    models = Models(
        mst=mst,
        config=told,
        device=device,
        sentences=_loaded("SENTENCE_MODEL", config.sentence_model, lambda: _spacy(mst, config)),
        entities=_loaded(
            "ENTITY_MODEL",
            config.entity_model,
            lambda: mst.entities.get_entity_model(config.entity_model),
        ),
        words=_loaded(
            "CORRECTION_MODEL",
            config.correction_model,
            lambda: mst.standardize.get_noun_correction_model(config.correction_model),
        ),
        diarization=_diarization(mst, told, config),
        introductions=_loaded(
            "INTRODUCTION_MODEL",
            config.introduction_model,
            lambda: mst.introductions.SetFitModel.from_pretrained(config.introduction_model),
        ),
    )
    try:
        models.move_to(device)
    except Exception as exc:
        require_room(exc, "loading")
        raise EngineUnavailable(f"the models cannot compute on {device} ({exc}): set DEVICE=cpu") from exc
    return models


def _give_back() -> None:
    """What is no longer used on a GPU: tracebacks hold tensors, PyTorch holds what was freed."""
    import torch  # noqa: PLC0415  the child's alone

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _only(device: str) -> Iterator[None]:
    """On the CPU no loader may see a GPU: each takes the one that it finds, however full."""
    import torch  # noqa: PLC0415  the child's alone

    if device != "cpu":
        yield
        return
    with swapped(vars(torch.cuda), "is_available", lambda: False):
        yield


@cache
def versions() -> dict[str, str]:
    """Read once a process: each step asks, and each headline."""
    return {name: _version(name) for name in _PACKAGES}


@contextmanager
def swapped(mapping: MutableMapping[str, Any], key: str, value: Any) -> Iterator[None]:
    """``mapping[key]`` is ``value`` for the time of a call: mst looks up its models and clients so."""
    missing = object()
    before = mapping.get(key, missing)
    mapping[key] = value
    try:
        yield
    finally:
        if before is missing:
            mapping.pop(key, None)
        else:
            mapping[key] = before


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _import_mst() -> SimpleNamespace:
    if not is_installed():
        raise EngineUnavailable(
            "engine 'mst' needs the packages multistep-transcriber and topic-treeseg: "
            "see docs/engine-mst.md, or set ENGINE=whisper"
        )
    # Before pyannote is imported: by default it tells its makers of every run.
    os.environ["PYANNOTE_METRICS_ENABLED"] = "0"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        found = {name: importlib.import_module(f"mst.steps.{name}") for name in _STEPS}
        found["topics"] = importlib.import_module("mst.steps.topic_segmentation")
        found["config"] = importlib.import_module("mst.config")
        found["treeseg"] = importlib.import_module("treeseg.treeseg")
    except Exception as exc:  # libraries that do not go together fail in many ways
        raise EngineUnavailable(
            f"multistep-transcriber cannot be imported ({type(exc).__name__}: {exc}): "
            "docs/engine-mst.md lists versions that go together"
        ) from exc
    # Its heap compares nodes where two splits are equally good, as they are among equal sentences.
    found["treeseg"].SegNode.__lt__ = lambda one, other: one.segment[0] < other.segment[0]
    return SimpleNamespace(**found)


def _told(mst: SimpleNamespace, config: MstConfig) -> Any:
    """Mst's own configuration; what it says of language models is ours to do."""
    told = mst.config.TranscriberConfig()
    told.merge_sentences.spacy_model = config.sentence_model
    told.entities.gliner_model = config.entity_model
    told.entities.entity_threshold = config.entity_threshold
    told.entities.similar_names_model = config.similar_names_model
    told.standardize.sentence_transformer_model = config.correction_model
    told.diarization.diarization_model = config.diarization_model
    told.diarization.hf_token = config.hf_token or None
    told.introductions.setfit_model = config.introduction_model
    told.topic.topic_model = config.topic_model
    return told


def _spacy(mst: SimpleNamespace, config: MstConfig) -> Any:
    nlp = mst.merge_sentences.spacy.load(config.sentence_model, exclude=_NOT_FOR_SENTENCES)
    if "sentencizer" not in nlp.pipe_names:  # as mst does
        nlp.add_pipe("sentencizer")
    return nlp


def _diarization(mst: SimpleNamespace, told: Any, config: MstConfig) -> Any | None:
    if not config.has_diarization:
        return None
    name = config.diarization_model
    remedy = " (accept the model's terms on its page and set HF_TOKEN)"
    return _loaded(
        "DIARIZATION_MODEL", name, lambda: mst.diarization.get_diarization_pipeline(told.diarization), remedy
    )


def _loaded(variable: str, model: str, load: Callable[[], Any], remedy: str = "") -> Any:
    try:
        made = load()
    except Exception as exc:  # the hub's client and six libraries have errors of their own
        require_room(exc, "loading")
        raise EngineUnavailable(
            f"the model {model!r} cannot be loaded ({type(exc).__name__}){remedy}: "
            f"set {variable} to a folder or to another name on the hub"
        ) from exc
    if made is None:  # pyannote's word for no access
        raise EngineUnavailable(f"the model {model!r} cannot be had{remedy}: or set {variable} to a folder")
    return made


def _device(wanted: str) -> str:
    import torch  # noqa: PLC0415  the child's alone

    if wanted == "cuda" and not torch.cuda.is_available():
        raise EngineUnavailable("DEVICE=cuda, but torch finds no GPU: install its driver, or set DEVICE=auto")
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wanted
