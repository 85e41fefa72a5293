"""What CTranslate2's one error becomes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from worker.engines.decoding import Chunk, Decoder
from worker.errors import EngineFailed, GpuFault, OutOfGpuMemory


class Failing:
    """A model whose encoder fails with this text."""

    model = SimpleNamespace(is_multilingual=False)
    hf_tokenizer = None

    def __init__(self, text: str) -> None:
        self._text = text

    def feature_extractor(self, _audio: object, padding: int) -> np.ndarray:
        raise RuntimeError(self._text)


@pytest.mark.parametrize(
    ("text", "kind", "retryable"),
    [
        ("CUDA failed with error out of memory", OutOfGpuMemory, True),
        ("cuBLAS failed with status CUBLAS_STATUS_ALLOC_FAILED", OutOfGpuMemory, True),
        ("CUDA failed with error an illegal memory access was encountered", GpuFault, True),
        ("Unsupported model binary version", EngineFailed, False),
    ],
)
@pytest.mark.parametrize("step", ["decode", "detect_language"])
def test_only_a_full_or_failing_gpu_is_worth_another_attempt(
    text: str, kind: type[Exception], retryable: bool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decoder, "_tokenizer", lambda *_: None)
    monkeypatch.setattr("faster_whisper.transcribe.get_suppressed_tokens", lambda *_: [])
    decoder = Decoder(Failing(text), encode_together=True)
    monkeypatch.setattr(Failing, "get_prompt", lambda *_: [], raising=False)
    monkeypatch.setattr(Failing.model, "generate", lambda *_, **__: [], raising=False)
    monkeypatch.setattr(Failing.model, "detect_language", lambda *_: [], raising=False)
    chunks = [Chunk(0.0, np.zeros(16_000, np.float32))]
    with pytest.raises(kind) as raised:
        decoder.decode(chunks, "en") if step == "decode" else decoder.detect_language(chunks)
    assert raised.value.retryable is retryable  # type: ignore[attr-defined]
