"""The adapter on the stand-in: orders to give, calls to count, jobs to run."""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.engines.mst import meeting
from tests.sources.audio_files import write_ready
from worker.engines.checkpoints import FolderCheckpoints, recording_id
from worker.engines.protocol import Options, Progress, Segment, Transcript
from worker.errors import EngineFailed, OutOfGpuMemory
from worker.settings import Settings
from worker.sources.pcm import PcmReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.engines.whisper import WhisperEngine

STANDIN = Path(__file__).parent / "standin"
RATE_HZ = 16_000


class Stop(BaseException):
    """What a cancelled job's check raises."""


class Killed(BaseException):
    """Stands for the process's end in tests of what it leaves."""


@dataclass
class Standin:
    """What the stand-in's packages are told, and what was asked of them."""

    folder: Path
    told: dict[str, Any] = field(default_factory=dict)

    @property
    def orders_file(self) -> Path:
        return self.folder / "orders.json"

    @property
    def calls_file(self) -> Path:
        return self.folder / "calls"

    def order(self, **orders: Any) -> None:
        self.told |= orders
        whole = self.folder / "orders.new"
        whole.write_text(json.dumps(self.told))
        whole.replace(self.orders_file)

    def at(self, call: str, do: str, on: list[int] | None = None) -> None:
        self.order(at={**self.told.get("at", {}), call: {"do": do} | ({"on": on} if on else {})})

    def calls(self, call: str = "") -> list[dict[str, Any]]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [one for line in lines if (one := json.loads(line))["call"] == call or not call]

    def count(self, call: str) -> int:
        return len(self.calls(call))

    def forget_calls(self) -> None:
        self.calls_file.unlink(missing_ok=True)


@dataclass
class Run:
    """One job's result, and what it told on the way."""

    transcript: Transcript
    reports: list[Progress]

    @property
    def texts(self) -> list[str]:
        return [segment.transcript for segment in self.transcript.segments]

    @property
    def speakers(self) -> list[str | None]:
        return [segment.speaker_name for segment in self.transcript.segments]

    @property
    def codes(self) -> set[str]:
        return {warning.code for warning in self.transcript.warnings}

    def warning(self, code: str) -> Any:
        found = [one for one in self.transcript.warnings if one.code == code]
        assert found, f"no warning {code}: {self.transcript.warnings}"
        return found[0]


@dataclass
class Bench:
    standin: Standin
    folder: Path
    speech: ScriptedWhisper

    def engine(self, **settings: Any) -> Any:
        from worker.engines.mst import MstEngine  # noqa: PLC0415  the stand-in must be there first

        engine = MstEngine.from_settings(self.settings(**settings))
        engine._lane.grace_s = 0.2  # nobody kills this process meanwhile
        return engine

    def settings(self, **changes: Any) -> Settings:
        values = {"device": "cpu", "min_topic_sentences": 4, "llm_timeout_s": 5, "llm_retries": 0} | changes
        assert set(values) <= set(Settings.model_fields), "the settings have no such field"
        return Settings(_env_file=None, **values)  # type: ignore[call-arg]  pydantic-settings' own

    def recording(self, length_s: float = meeting.LENGTH_S) -> Path:
        samples = np.zeros(max(1, round(length_s * RATE_HZ)), np.int16)
        return write_ready(self.folder / f"{length_s:g}.wav", samples)

    def checkpoints(self, name: str = "kept") -> FolderCheckpoints:
        return FolderCheckpoints(self.folder / name, {"recording": recording_id(self.recording())})

    def run(
        self,
        engine: Any = None,
        options: Options | None = None,
        check: Callable[[], None] = lambda: None,
        checkpoints: Any = None,
        recording: Path | None = None,
        reports: list[Progress] | None = None,
        **settings: Any,
    ) -> Run:
        engine = engine or self.engine(**settings)
        reports = [] if reports is None else reports
        made = engine.transcribe(
            recording or self.recording(),
            options or Options(max_topics=3),
            reports.append,
            check,
            checkpoints or self.checkpoints(f"kept-{len(list(self.folder.iterdir()))}"),
        )
        return Run(made, reports)


@dataclass
class ScriptedWhisper:
    """Takes the place of WhisperEngine's methods: says ``segments``, window by window, with its contract.

    It reports and checks along the recording, keeps a checkpoint, is relieved and moved as the real one is,
    and misbehaves at the stand-in's call "whisper": raise, gpu_oom, oom, kill, hang.
    """

    segments: tuple[Segment, ...] = meeting.SPEECH
    language: str | None = "en"
    prepared: int = 0
    relieved: int = 0
    on_cpu: bool = False
    threads: set[int] = field(default_factory=set)
    said: Callable[..., None] | None = None

    def transcribe(
        self,
        engine: WhisperEngine,
        recording: Path,
        options: Options,
        report: Callable[[Progress], None],
        check: Callable[[], None],
        checkpoints: Any,
    ) -> Transcript:
        self.threads.add(threading.get_ident())
        kept = checkpoints.keyed(engine="whisper", language=options.language)
        with PcmReader(recording) as pcm:
            length_s = pcm.duration_s
        if kept.load("window-000000") is None:
            self._hear(length_s, report, check)
            kept.save("window-000000", {"until_s": length_s})
        check()
        report(Progress("transcribe", 1, 1, 1.0, length_s, length_s))
        language = (options.language or self.language) if self.segments else options.language
        return Transcript("whisper", "scripted", language, length_s, self.segments)

    def _hear(self, length_s: float, report: Callable[[Progress], None], check: Callable[[], None]) -> None:
        import standin_orders  # noqa: PLC0415  only where the stand-in is on the path

        for part in range(4):
            check()
            if part == 2:
                self._obey(standin_orders, check)
            report(Progress("transcribe", 1, 1, part / 4, length_s * part / 4, length_s))

    @staticmethod
    def _obey(standin_orders: Any, check: Callable[[], None]) -> None:
        if standin_orders.orders()["at"].get("whisper", {}).get("do") == "hang":
            standin_orders.asked("whisper hangs")
            while standin_orders.orders()["at"].get("whisper", {}).get("do") == "hang":
                check()
        try:
            standin_orders.asked("whisper")
        except RuntimeError as exc:
            if "out of memory" in str(exc):
                raise OutOfGpuMemory("the GPU's memory is full") from exc
            raise EngineFailed(f"transcription failed: {exc}") from exc

    def relieve(self, _engine: WhisperEngine) -> bool:
        self.relieved += 1
        return self.relieved < 3

    def move_to_cpu(self, _engine: WhisperEngine) -> None:
        self.on_cpu = True

    def prepare(self, _engine: WhisperEngine) -> None:
        self.prepared += 1


def methods_of(speech: ScriptedWhisper) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What to put in the place of WhisperEngine's methods."""

    def bound_to(method: Callable[..., Any]) -> Callable[..., Any]:
        def called(engine: WhisperEngine, *args: Any, **named: Any) -> Any:
            return method(engine, *args, **named)

        return called

    for name in ("transcribe", "relieve", "move_to_cpu", "prepare"):
        yield name, bound_to(getattr(speech, name))


def forget_standin() -> None:
    """Modules of the stand-in, so that no other test finds them."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(STANDIN)):
            del sys.modules[name]
    for name in ("pyannote",):
        sys.modules.pop(name, None)
