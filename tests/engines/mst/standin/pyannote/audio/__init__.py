"""A pipeline that hears the ordered turns, by steps and with progress as the real one reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pyannote.core import Annotation, Segment
from standin_orders import asked, load, orders

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class DiarizeOutput:
    speaker_diarization: Annotation
    exclusive_speaker_diarization: Annotation
    speaker_embeddings: Any = None


class Pipeline:
    def __init__(self) -> None:
        self.device = "cpu"
        self.segmentation_batch_size = 32
        self.embedding_batch_size = 32

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str,
        revision: str | None = None,
        hparams_file: str | None = None,
        subfolder: str | None = None,
        token: str | bool | None = None,
        cache_dir: str | None = None,
    ) -> Pipeline | None:
        load("pyannote.load", str(checkpoint))
        return cls()

    def to(self, device: Any) -> Pipeline:
        self.device = getattr(device, "type", str(device))
        asked("pyannote.to", device=self.device)
        return self

    def __call__(self, file: Any, preload: bool = False, **kwargs: Any) -> DiarizeOutput:
        asked(
            "pyannote",
            by_path=isinstance(file, str),
            device=self.device,
            batch=[self.segmentation_batch_size, self.embedding_batch_size],
        )
        if isinstance(file, str):
            raise RuntimeError("torchcodec is not available")  # noqa: TRY004  as pyannote
        _report(kwargs.get("hook"), file)
        return _heard(file)


def _report(hook: Callable[..., None] | None, file: Any) -> None:
    for name in ("segmentation", "speaker_counting", "embeddings", "discrete_diarization"):
        asked(f"pyannote.{name}")
        if hook is None:
            continue
        if name in ("segmentation", "embeddings"):
            for done in range(0, 6, 2):  # more than the total, in the end, and no int
                hook(name, None, file=file, total=np.int64(3), completed=np.int64(done))
        hook(name, np.zeros(1), file=file)


def _heard(file: Any) -> DiarizeOutput:
    """The ordered turns up to the recording's end; the exclusive ones have no overlap."""
    length_s = file["waveform"].shape[-1] / file["sample_rate"]
    turns = [(start, min(end, length_s), who) for start, end, who in orders()["turns"] if start < length_s]
    return DiarizeOutput(_annotation(turns), _annotation(list(_one_at_a_time(turns))))


def _one_at_a_time(turns: list[tuple[float, float, str]]) -> Any:
    free_s = 0.0
    for start, end, who in sorted(turns):
        if end > max(start, free_s):
            yield max(start, free_s), end, who
            free_s = end


def _annotation(turns: list[tuple[float, float, str]]) -> Annotation:
    made = Annotation()
    for index, (start, end, who) in enumerate(turns):
        made[Segment(start, end), str(index)] = who
    return made
