"""MST_STOCK: the steps whose text we cure, as multistep-transcriber alone does them.

Its crashes, its lost errors and its files are cured all the same: each of these raises what went wrong.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from worker.engines.mst.failures import StepFailed
from worker.engines.mst.loading import swapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.mst.entities import Grouped
    from worker.engines.mst.loading import Models
    from worker.engines.mst.rows import Row
    from worker.engines.mst.speakers import Turn

UNKNOWN = "UNKNOWN"
SILENCE = "[SILENCE]"


def raw_transcript(heard: list[Row], models: Models) -> list[Row]:
    """Whisper's segments as mst keeps them: stripped, equal neighbours made one."""
    transcription = models.mst.transcription
    segments = [
        SimpleNamespace(start=row["start"], end=row["end"], text=f" {row['transcript']}") for row in heard
    ]
    name = models.config.transcription.whisper_model
    speaker = SimpleNamespace(transcribe=lambda _path: (segments, None))
    with swapped(transcription._whisper_models, name, speaker):  # noqa: SLF001  its cache
        rows: list[Row] = _whole(transcription.initial_transcription("", config=models.config.transcription))
    return rows


def to_sentences(segments: list[Row], models: Models) -> list[Row]:
    merging = models.mst.merge_sentences
    loaded = SimpleNamespace(load=lambda _name: models.sentences)
    with swapped(vars(merging), "spacy", loaded):
        rows: list[Row] = merging.merge_transcript_segments(
            "", segments, config=models.config.merge_sentences
        )
    return rows


def correct(rows: list[Row], names: Grouped, models: Models, encode: Callable[[list[str]], Any]) -> list[Row]:
    """Word by word, but each word encoded once."""
    standardize = models.mst.standardize
    known = [one["text"] for some in names.values() for one in some]
    words = sorted({word.lower() for row in rows for word in row["transcript"].split()})
    memory = _Memory(models.words, dict(zip(words, encode(words), strict=True)))
    name = models.config.standardize.sentence_transformer_model
    with swapped(standardize._noun_correction_models, name, memory):  # noqa: SLF001  its cache
        corrected: list[Row] = standardize.standardize_nouns_ai(rows, known, config=models.config.standardize)
    return corrected


def turns_kept(turns: list[Turn], models: Models) -> list[Turn]:
    """As mst keeps them: without the first, without those within others."""
    diarization = models.mst.diarization
    pairs = [(SimpleNamespace(start=start, end=end), who) for start, end, who in turns]
    if not pairs:
        return []
    name = models.config.diarization.diarization_model
    with swapped(diarization._diarization_pipelines, name, lambda _path: pairs):  # noqa: SLF001  its cache
        kept = _whole(diarization.identify_speakers("", None, config=models.config.diarization))
    return [(one["start"], one["end"], one["speaker"]) for one in kept]


def assign(rows: list[Row], turns: list[Turn], models: Models) -> list[Row]:
    """Rows as mst cuts them along turns; a row of silence is a row."""
    if not turns:
        return [{**row, "speaker": UNKNOWN} for row in rows]
    helpers = models.mst.helpers
    heard = [{"start": start, "end": end, "speaker": who} for start, end, who in turns]
    merged = helpers.merge_transcript_diarization("", rows, heard)
    compressed: list[Row] = helpers.compress_transcript("", merged)
    return [
        {"start": row["start"], "end": row["end"], "transcript": row["transcript"], "speaker": row["speaker"]}
        for row in compressed
    ]


def _whole(made: Any) -> Any:
    if not isinstance(made, list):  # mst's word for an error that it has printed
        raise StepFailed("multistep-transcriber gave no result")
    return made


class _Memory:
    """Encodes a list by the model, and a single word from memory."""

    def __init__(self, model: Any, known: dict[str, Any]) -> None:
        self._model = model
        self._known = known

    def encode(self, text: Any, *, convert_to_tensor: bool = True) -> Any:
        if isinstance(text, str) and text in self._known:
            import torch  # noqa: PLC0415  the child's alone

            return torch.from_numpy(self._known[text]).to(getattr(self._model, "device", "cpu"))
        return self._model.encode(text, convert_to_tensor=convert_to_tensor)
