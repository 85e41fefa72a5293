"""The engine ``mst``: see Engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from worker.engines.mst.config import MstConfig
from worker.engines.mst.lane import Lane
from worker.engines.mst.plan import TRANSCRIBE, Plan
from worker.errors import EngineUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from worker.engines.mst.loading import Models
    from worker.engines.mst.rows import Row
    from worker.engines.mst.work import Work
    from worker.engines.protocol import Checkpoints, Options, Progress, Transcript
    from worker.engines.whisper import WhisperEngine
    from worker.settings import Settings

# What the transcript lacks nothing by.
_NOT_MISSING = frozenset({"too_short_for_topics"})


@dataclass
class MstEngine:
    config: MstConfig
    name: ClassVar[str] = "mst"
    _whisper: WhisperEngine | None = field(default=None, init=False, repr=False)
    _models: Models | None = field(default=None, init=False, repr=False)
    _lane: Lane = field(default_factory=Lane, init=False, repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> MstEngine:
        return cls(MstConfig.from_settings(settings))

    def prepare(self) -> None:
        """See Engine. Whisper first: with torch loaded before it, two OpenMP libraries share the process."""
        if self._models is None:
            if self.config.embedding_model and self.config.llm.provider == "none":
                raise EngineUnavailable(
                    "EMBEDDING_MODEL is set, but no server that has it: set OLLAMA_HOST or OPENAI_BASE_URL, "
                    "or leave EMBEDDING_MODEL empty"
                )
            from worker.engines.mst.loading import load_models  # noqa: PLC0415  loads torch

            self._ear().prepare()
            self._models = load_models(self.config)

    def transcribe(
        self,
        recording: Path,
        options: Options,
        report: Callable[[Progress], None],
        check: Callable[[], None],
        checkpoints: Checkpoints,
    ) -> Transcript:
        """See Engine."""
        from worker.engines.mst.work import CallerFailed, Work  # noqa: PLC0415  the child's alone

        check()
        self.prepare()
        self._lane.wait_until_free(check)
        try:
            return self._carry_out(
                recording,
                options,
                Work(Plan.of(self.config, options), self._lane, report, check, checkpoints),
            )
        except CallerFailed as exc:
            raise exc.error from None

    def relieve(self) -> bool:
        shrunk = self._models is not None and self._models.shrink_batches()
        return self._ear().relieve() or shrunk

    def move_to_cpu(self) -> None:
        self._ear().move_to_cpu()
        self.config = replace(self.config, device="cpu")
        if self._models is not None:
            self._models.move_to("cpu")

    def _carry_out(self, recording: Path, options: Options, work: Work) -> Transcript:
        work.enter(TRANSCRIBE)
        heard = self._ear().transcribe(recording, options, work.from_whisper, work.check, work.checkpoints)
        made = replace(heard, engine=self.name)
        if heard.segments:
            made = self._enrich(made, recording, options, work)
        work.finish()
        return made

    def _enrich(self, heard: Transcript, recording: Path, options: Options, work: Work) -> Transcript:
        """The transcript with what the steps behind Whisper find."""
        from worker.engines.mst.language_model import LanguageModel  # noqa: PLC0415  the child's alone
        from worker.engines.mst.pipeline import Pipeline  # noqa: PLC0415  as above

        assert self._models is not None  # prepared
        config = self.config
        llm = LanguageModel(config.llm, config.llm_timeout_s, config.llm_retries, work.tell)
        pipeline = Pipeline(config, self._models, llm, work, recording, heard.duration_s, options.max_topics)
        said: list[Row] = [
            {"start": one.start, "end": one.end, "transcript": one.transcript} for one in heard.segments
        ]
        segments, topics, entities = pipeline.run(said)
        warnings = (*heard.warnings, *work.warnings)
        return replace(
            heard,
            segments=tuple(segments),
            topics=tuple(topics),
            entities=tuple(entities),
            warnings=warnings,
            partial=any(warning.code not in _NOT_MISSING for warning in work.warnings),
        )

    def _ear(self) -> WhisperEngine:
        if self._whisper is None:
            from worker.engines.whisper import WhisperEngine  # noqa: PLC0415  loads numpy

            self._whisper = WhisperEngine(model=self.config.whisper_model, device=self.config.device)
        return self._whisper
