"""One job on its way through the steps: its progress, what it keeps, and what it lacks in the end."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from worker.engines.mst.failures import StepFailed, require_room, told
from worker.engines.mst.loading import versions
from worker.engines.protocol import EngineWarning, Progress
from worker.errors import JobError
from worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.engines.mst.lane import Lane
    from worker.engines.mst.plan import Plan
    from worker.engines.protocol import Checkpoints

log = get_logger(__name__)

T = TypeVar("T")
REVISION = 1  # grows when the same recording gets another result from this code


class CallerFailed(BaseException):
    """``report`` or ``check`` raised an Exception: that is the attempt's, no step's failure."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


@dataclass
class Work:
    """For the calling thread, apart from ``tell``. Its methods raise CallerFailed besides what they say."""

    plan: Plan
    lane: Lane
    report: Callable[[Progress], None]
    check: Callable[[], None]
    checkpoints: Checkpoints
    warnings: list[EngineWarning] = field(default_factory=list)
    step: str = ""
    _fraction: float = 0.0

    def __post_init__(self) -> None:
        self.report = _telling_apart(self.report)
        self.check = _telling_apart(self.check)

    def enter(self, step: str) -> None:
        self.check()
        self.step = step
        self._report(Progress(step, 0, 0, 0.0))

    def progress(self, part: float) -> None:
        """Of the step, from 0 to 1."""
        self._report(Progress(self.step, 0, 0, part))

    def from_whisper(self, progress: Progress) -> None:
        self._report(replace(progress, step=self.step))

    def finish(self) -> None:
        """All is done, whatever was left out."""
        self.step = self.plan.steps[-1]
        self._report(Progress(self.step, 0, 0, 1.0))

    def tell(self, part: float) -> None:
        """As ``progress``, from the step's thread."""
        self.lane.tell(part)

    def kept(self, name: str, depends_on: object, compute: Callable[[], T]) -> T:
        """What an earlier attempt kept of this; or else ``compute()``, in the step's thread, and kept.

        A result is JSON, and found again only where everything that it depends on is the same.
        """
        store = self.checkpoints.keyed(
            engine="mst", revision=REVISION, versions=versions(), depends_on=_digest(depends_on)
        )
        found: T | None = store.load(name)
        if found is not None:
            log.info("step_resumed", step=self.step, checkpoint=name)
            return found
        made = self.lane.run(compute, self.check, self.progress)
        store.save(name, made)
        self.check()
        return made

    def tolerate(self, compute: Callable[[], T], instead: T, reason: str) -> T:
        """``compute()``; where it fails, ``instead`` and a warning. The transcript is never lost by it.

        Passes on what another attempt may not run into (a full GPU), and what ends the job anyway.
        """
        try:
            return compute()
        except JobError:
            raise
        except StepFailed as exc:
            log.warning("step_failed", step=self.step, reason=exc.reason)
            self.warn(exc.code, exc.reason)
        except Exception as exc:  # noqa: BLE001  a step's border: seven libraries with errors of their own
            require_room(exc, self.step)
            log.warning("step_failed", step=self.step, error=told(exc))
            self.warn(f"{self.step}_failed", f"{reason}: {type(exc).__name__}")
        return instead

    def warn(self, code: str, reason: str) -> None:
        warning = EngineWarning(code, self.step, reason)
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _report(self, progress: Progress) -> None:
        self._fraction = max(self._fraction, self.plan.fraction(self.step, progress.fraction))
        number = self.plan.number(self.step)
        self.report(
            replace(progress, number=number, of=len(self.plan.steps), fraction=round(self._fraction, 6))
        )


def _telling_apart(call: Callable[..., None]) -> Callable[..., None]:
    def called(*arguments: object) -> None:
        try:
            call(*arguments)
        except Exception as exc:
            raise CallerFailed(exc) from exc

    return called


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
