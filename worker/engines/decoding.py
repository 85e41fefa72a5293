"""Chunks of speech to timed phrases: features, encoder, decoder, and the guard against invented text.

faster-whisper's own pipelines are passed by for three reasons, measured in docs/engines.md: its sequential
one decodes one chunk at a time, its batched one encodes a whole batch at once (200 MB of attention for
four chunks) and loses track of times where speech fills a chunk.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from worker.engines.oom import is_cuda_error
from worker.engines.sentences import Phrase
from worker.engines.whisper_model import is_full
from worker.errors import EngineFailed, GpuFault, JobError, OutOfGpuMemory

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

CHUNK_SAMPLES = 480_000  # Whisper hears 30 s at 16 kHz, padded with silence
TIMESTAMP_S = 0.02  # between two of Whisper's timestamp tokens

# Whisper's own thresholds (openai/whisper, transcribe.py): text that compresses better is a loop, text less
# probable is a guess, and a guess where the model hears no speech is nothing.
MAX_COMPRESSION = 2.4
MIN_LOGPROB = -1.0
MAX_NO_SPEECH = 0.6
# Greedy first; what fails the guard is heard again with more care. Whisper's own ladder raises the
# temperature instead, which gives another text at each run; a repeated attempt must give the same.
_LADDER: tuple[dict[str, Any], ...] = (
    {"beam_size": 1},
    {"beam_size": 5},
    {"beam_size": 5, "no_repeat_ngram_size": 3, "repetition_penalty": 1.2},
)


@dataclass(frozen=True)
class Chunk:
    """Speech to decode. ``audio`` is float32 of shape (n,), n <= CHUNK_SAMPLES, at 16 kHz."""

    start_s: float  # from the recording's start
    audio: NDArray[np.float32]

    @property
    def length_s(self) -> float:
        return len(self.audio) / 16_000


@dataclass(frozen=True)
class Heard:
    """One decoding of a chunk. ``logprob`` is the mean over its tokens."""

    tokens: list[int]
    text: str
    logprob: float
    no_speech: float

    @property
    def loops(self) -> bool:
        raw = self.text.encode()
        return len(raw) / len(zlib.compress(raw)) > MAX_COMPRESSION

    @property
    def is_doubtful(self) -> bool:
        return self.loops or self.logprob < MIN_LOGPROB

    @property
    def is_nothing(self) -> bool:
        return self.no_speech > MAX_NO_SPEECH and self.logprob < MIN_LOGPROB


class Decoder:
    """A loaded model for several threads at once (as many as it has workers)."""

    def __init__(self, model: Any, *, encode_together: bool) -> None:
        self._model = model
        self._encode_together = encode_together

    @property
    def is_multilingual(self) -> bool:
        return bool(self._model.model.is_multilingual)

    @property
    def languages(self) -> list[str]:
        return list(self._model.supported_languages)

    def detect_language(self, chunks: Sequence[Chunk]) -> str:
        """The language most probable over all of ``chunks`` (at least one).

        Raises EngineFailed or OutOfGpuMemory, as decode does.
        """
        try:
            rankings = self._model.model.detect_language(self._encode(chunks))
        except RuntimeError as exc:
            raise _as_ours(exc) from exc
        votes: dict[str, float] = {}
        for ranking in rankings:
            for token, probability in ranking:
                votes[token] = votes.get(token, 0.0) + probability
        return max(votes, key=lambda token: votes[token]).strip("<|>")

    def decode(self, chunks: Sequence[Chunk], language: str) -> list[Phrase]:
        """What is said in ``chunks``, in their order, timed from the recording's start.

        Raises EngineFailed where the computation fails, OutOfGpuMemory where the device is too full.
        """
        if not chunks:
            return []
        try:
            greedy = self._generate(chunks, language, _LADDER[0])
            heard = [self._guarded(*pair, language) for pair in zip(chunks, greedy, strict=True)]
        except RuntimeError as exc:  # CTranslate2's one error: memory, device, a model of another kind
            raise _as_ours(exc) from exc
        tokenizer = self._tokenizer(language)
        return [
            phrase
            for chunk, item in zip(chunks, heard, strict=True)
            if not item.is_nothing
            for phrase in _phrases(chunk, item, tokenizer)
        ]

    def unload(self) -> None:
        """Give the device's memory back at once, whoever still holds this object. Of no use afterwards."""
        self._model.model.unload_model()

    def _guarded(self, chunk: Chunk, heard: Heard, language: str) -> Heard:
        """``heard``, or the first better one of the ladder, or the most probable that does not loop."""
        if not heard.is_doubtful or heard.is_nothing:
            return heard
        tried = [heard]
        for settings in _LADDER[1:]:
            tried += self._generate([chunk], language, settings)
            if not tried[-1].is_doubtful:
                return tried[-1]
        return max([one for one in tried if not one.loops] or tried[-1:], key=lambda one: one.logprob)

    def _generate(self, chunks: Sequence[Chunk], language: str, settings: dict[str, Any]) -> list[Heard]:
        from faster_whisper.transcribe import get_suppressed_tokens  # noqa: PLC0415  heavy, loaded by now

        tokenizer = self._tokenizer(language)
        results = self._model.model.generate(
            self._encode(chunks),
            [self._model.get_prompt(tokenizer, [])] * len(chunks),
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
            **settings,
        )
        return [_heard(result, tokenizer) for result in results]

    def _encode(self, chunks: Sequence[Chunk]) -> Any:
        """The encoder's output for all chunks: shape (len(chunks), 1500, width).

        On a CPU the chunks are encoded one by one: as fast, and attention takes a fourth of the memory.
        """
        from ctranslate2 import StorageView  # noqa: PLC0415  heavy, loaded by now

        features = [self._features(chunk) for chunk in chunks]
        if self._encode_together or len(features) == 1:
            return self._model.encode(np.stack(features))
        return StorageView.from_array(
            np.concatenate([np.asarray(self._model.encode(one[np.newaxis])) for one in features])
        )

    def _features(self, chunk: Chunk) -> NDArray[np.float32]:
        """Log-mel features, shape (mels, 3000)."""
        padded = np.zeros(CHUNK_SAMPLES, np.float32)
        padded[: len(chunk.audio)] = chunk.audio
        features: NDArray[np.float32] = self._model.feature_extractor(padded, padding=0)
        return features

    def _tokenizer(self, language: str) -> Any:
        from faster_whisper.tokenizer import Tokenizer  # noqa: PLC0415  heavy, loaded by now

        return Tokenizer(self._model.hf_tokenizer, self.is_multilingual, task="transcribe", language=language)


def _as_ours(exc: RuntimeError) -> JobError:
    if is_full(exc):
        return OutOfGpuMemory("the GPU ran out of memory while decoding")
    if is_cuda_error(exc):
        return GpuFault(f"the GPU failed while decoding: {exc}")
    return EngineFailed(f"Whisper could not decode: {exc}")


def _heard(result: Any, tokenizer: Any) -> Heard:
    tokens = list(result.sequences_ids[0])
    # CTranslate2 divides the score by the length without the closing token; Whisper counts it.
    logprob = result.scores[0] * len(tokens) / (len(tokens) + 1)
    return Heard(tokens, tokenizer.decode(tokens), logprob, result.no_speech_prob)


def _phrases(chunk: Chunk, heard: Heard, tokenizer: Any) -> Iterator[Phrase]:
    for start_s, end_s, tokens in timed_runs(heard.tokens, tokenizer.timestamp_begin, chunk.length_s):
        text = tokenizer.decode(tokens).strip()
        if text:
            yield Phrase(chunk.start_s + start_s, chunk.start_s + end_s, text)


def timed_runs(
    tokens: Sequence[int], timestamp_begin: int, length_s: float
) -> Iterator[tuple[float, float, list[int]]]:
    """Runs of text tokens between timestamps: (start, end, tokens), never backwards, within ``length_s``.

    A token from ``timestamp_begin`` on is a time in steps of TIMESTAMP_S. A run that lacks its closing time
    lasts until ``length_s``: the decoder stopped early, and dropping the text would lose words.
    """
    start_s = 0.0
    run: list[int] = []
    for token in tokens:
        if token < timestamp_begin:
            run.append(token)
            continue
        at_s = max(start_s, min((token - timestamp_begin) * TIMESTAMP_S, length_s))
        if run:
            yield start_s, at_s, run
            run = []
        start_s = at_s
    if run:
        yield start_s, length_s, run
