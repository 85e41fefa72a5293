"""The engine ``whisper``: faster-whisper's model, fed window by window in bounded memory.

    recording --PcmReader--> windows of a few minutes, cut at pauses
              --voice------> stretches of speech --cutting--> chunks of at most 29 s
              --decoding---> phrases, a few chunks a batch, as many batches at once as there are workers
              --sentences--> segments

Nothing but the sentences' text grows with the recording. Each batch depends on its own window alone, so an
attempt after a kill goes on behind the last window that was finished, and gets the same result.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from worker.engines import windows
from worker.engines.cutting import pack_chunks, window_cut_s
from worker.engines.decoding import Chunk, Decoder
from worker.engines.protocol import Options, Progress, Transcript
from worker.engines.sentences import to_sentences
from worker.engines.voice import FRAME_S, RATE_HZ, load_voice_model, speech_probabilities, speech_stretches
from worker.engines.whisper_model import BUNDLED, Placement, bound_heaps, load, place, trim_heaps
from worker.errors import EngineFailed, EngineUnavailable
from worker.logs import get_logger
from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from worker.engines.protocol import Checkpoints
    from worker.engines.sentences import Phrase

log = get_logger(__name__)

_Result = TypeVar("_Result")
STEP = "transcribe"
# Long enough to fill two batches, short enough to keep the windows in flight (three or so, 12 MB each) small.
WINDOW_S = 180.0
_CUT_WITHIN = 1 / 8  # windows are cut in their last eighth; what is behind the cut is looked at again
_CHECK_EVERY_S = 0.25


@dataclass(frozen=True)
class _Batch:
    """Chunks decoded together. When it is done, so is the recording until ``until_s``."""

    chunks: Sequence[Chunk]
    until_s: float
    window: int
    ends_window: bool


@dataclass(frozen=True)
class _Loaded:
    decoder: Decoder
    voice: Any
    placement: Placement
    pool: ThreadPoolExecutor


@dataclass
class WhisperEngine:
    """``model`` is a CTranslate2 folder, a name on the hub, or empty for the wheel's tiny.en.

    ``device`` is "cpu", "cuda" or "auto"; ``compute_type`` one of CTranslate2's, by default int8 on a CPU
    and float16 on a GPU. ``threads`` of a CPU (0: all that the process may use) are shared out to workers.
    """

    model: str = ""
    device: str = "auto"
    compute_type: str = ""
    threads: int = 0
    batch_size: int = 0
    window_s: float = WINDOW_S
    name: str = "whisper"
    _loaded: _Loaded | None = field(default=None, init=False, repr=False)

    def prepare(self) -> None:
        self._ready()

    def transcribe(
        self,
        recording: Path,
        options: Options,
        report: Callable[[Progress], None],
        check: Callable[[], None],
        checkpoints: Checkpoints,
    ) -> Transcript:
        """See Engine. No speech gives a transcript without segments."""
        loaded = self._ready()
        language = _wanted_language(options, loaded.decoder, self._model_name)
        check()
        kept = checkpoints.keyed(**windows.identity(self.name, self.model, language, self.window_s))
        finished = windows.finished(kept)
        with PcmReader(recording) as pcm:
            batches = _batches(pcm, loaded, self.window_s, check, finished)
            run = _Run(loaded, language or finished.language, pcm.duration_s, report, check, kept)
            if finished.count:
                log.info("windows_resumed", windows=finished.count, until_s=round(finished.until_s, 1))
                run.report_done(finished.until_s)
            phrases = [*finished.phrases, *run.phrases(batches)]
            segments = to_sentences(phrases, pcm.duration_s)
            run.report_done(pcm.duration_s)
            return Transcript(
                engine=self.name,
                model=self._model_name,
                language=run.language if segments else language,
                duration_s=round(pcm.duration_s, 3),
                segments=segments,
            )

    def relieve(self) -> bool:
        if self._loaded is None or self._loaded.placement.batch_size == 1:  # it did not even load
            return False
        placement = self._loaded.placement
        smaller = replace(placement, batch_size=placement.batch_size // 2)
        self._loaded = replace(self._loaded, placement=smaller)
        return True

    def move_to_cpu(self) -> None:
        if self._loaded is not None:
            self._loaded.pool.shutdown()
            self._loaded.decoder.unload()  # the traceback of a failed batch may hold it
        self._loaded = None
        self.device, self.compute_type = "cpu", ""
        self.prepare()

    @property
    def _model_name(self) -> str:
        """Without the folders above: results are shown to clients."""
        return Path(self.model).name or BUNDLED

    def _ready(self) -> _Loaded:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def _load(self) -> _Loaded:
        bound_heaps()
        try:
            placement = place(self.device, self.compute_type, self.threads, self.batch_size)
            decoder = Decoder(load(self.model, placement), encode_together=placement.is_cuda)
            voice = load_voice_model()
        except ImportError as exc:
            raise EngineUnavailable(
                f"engine 'whisper' lacks a library ({exc}): install the extra 'worker'"
            ) from exc
        return _Loaded(decoder, voice, placement, ThreadPoolExecutor(placement.workers, "whisper"))


@dataclass
class _Run:
    """One recording on its way through the workers."""

    loaded: _Loaded
    language: str | None
    total_s: float
    report: Callable[[Progress], None]
    check: Callable[[], None]
    checkpoints: Checkpoints
    _of_window: list[Phrase] = field(default_factory=list)

    def phrases(self, batches: Iterable[_Batch]) -> Iterator[Phrase]:
        """Phrases in order, while the next batches are computed.

        One batch more than there are workers is handed out, so that none waits while this thread looks for
        speech in the next window. On any exception, cancellation included, no queued batch is begun.
        """
        flying: deque[tuple[_Batch, Future[list[Phrase]]]] = deque()
        try:
            for batch in batches:
                flying.append((batch, self._hand_out(batch)))
                if len(flying) > self.loaded.placement.workers + 1:
                    yield from self._take_in(*flying.popleft())
            while flying:
                yield from self._take_in(*flying.popleft())
        finally:
            for _, future in flying:
                future.cancel()

    def report_done(self, done_s: float) -> None:
        fraction = min(1.0, done_s / self.total_s) if self.total_s else 1.0
        self.report(Progress(STEP, 1, 1, fraction, done_s, self.total_s))

    def _hand_out(self, batch: _Batch) -> Future[list[Phrase]]:
        decoder, pool = self.loaded.decoder, self.loaded.pool
        if batch.chunks and self.language is None:
            self.language = self._await(pool.submit(decoder.detect_language, batch.chunks))
        return pool.submit(decoder.decode, batch.chunks, self.language or "en")

    def _take_in(self, batch: _Batch, future: Future[list[Phrase]]) -> list[Phrase]:
        phrases = self._await(future)
        self._of_window += phrases
        if batch.ends_window:
            windows.keep(self.checkpoints, batch.window, batch.until_s, self.language, self._of_window)
            self._of_window = []
            trim_heaps()
        self.report_done(batch.until_s)
        return phrases

    def _await(self, future: Future[_Result]) -> _Result:
        while not wait([future], timeout=_CHECK_EVERY_S).done:
            self.check()
        self.check()
        return future.result()


def _wanted_language(options: Options, decoder: Decoder, model: str) -> str | None:
    """None: to be detected. Raises EngineFailed for a language that the model does not know."""
    wanted = options.language.strip().lower() if options.language else None
    if not decoder.is_multilingual:
        if wanted not in (None, "en"):
            raise EngineFailed(
                f"model {model} knows English only, not {wanted!r}: leave the language out, or set "
                "WHISPER_MODEL to a multilingual model (such as small)"
            )
        return "en"
    if wanted is not None and wanted not in decoder.languages:
        raise EngineFailed(f"model {model} knows no language {wanted!r}: use an ISO 639-1 code, such as de")
    return wanted


def _batches(
    pcm: PcmReader, loaded: _Loaded, window_s: float, check: Callable[[], None], finished: windows.Finished
) -> Iterator[_Batch]:
    """The other windows' batches, in order; each window is read when the one before has been handed out."""
    window, start_s = finished.count, finished.until_s
    while start_s < pcm.duration_s:
        audio = pcm.read(start_s, window_s)
        if not len(audio):  # the file was cut short since it was opened
            return
        probabilities = speech_probabilities(loaded.voice, audio, check)
        is_last = start_s + window_s >= pcm.duration_s
        length_s = len(audio) / RATE_HZ if is_last else window_cut_s(probabilities, window_s * _CUT_WITHIN)
        stretches = speech_stretches(probabilities[: round(length_s / FRAME_S)])
        chunks = [
            Chunk(start_s + one.start_s, audio[round(one.start_s * RATE_HZ) : round(one.end_s * RATE_HZ)])
            for one in pack_chunks(stretches, probabilities)
        ]
        yield from _split(chunks, loaded.placement.batch_size, start_s + length_s, window)
        start_s += length_s
        window += 1


def _split(chunks: Sequence[Chunk], batch_size: int, until_s: float, window: int) -> Iterator[_Batch]:
    """Batches of equal size, at most ``batch_size``; an empty one for a window without speech."""
    count = max(1, -(-len(chunks) // batch_size))
    bounds = [round(index * len(chunks) / count) for index in range(count + 1)]
    for index, (first, last) in enumerate(pairwise(bounds)):
        is_last = index == count - 1
        done_s = until_s if is_last else chunks[last].start_s
        yield _Batch(chunks[first:last], done_s, window, is_last)
