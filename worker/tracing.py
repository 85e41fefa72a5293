"""One trace a job, from its request to its attempts' steps, for an OpenTelemetry collector. Off by default.

A span's children may be in another process: what leads there is its W3C traceparent, a line of text that the
job's record keeps. Off, or without the packages of the extra ``tracing``, every call here does nothing.

Spans carry ids, codes and names of steps; nothing of what was said, and no client's text.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from worker import __version__
from worker.logs import get_logger

if TYPE_CHECKING:
    from opentelemetry import trace

    from worker.settings import Settings

log = get_logger(__name__)

Attribute = str | int | float | bool
Kind = Literal["server", "producer", "consumer", "internal"]
EXPORT_WITHIN_S = 2.0


class Span(Protocol):
    @property
    def traceparent(self) -> str:
        """What a child of this span is given as its parent; '' where there is none."""

    def end(self, name: str = "", error: str | None = None, **attributes: Attribute | None) -> None:
        """Send it; one that never ends is never sent. ``name`` replaces the one that it began with."""


class NoSpan:
    traceparent = ""

    def end(self, name: str = "", error: str | None = None, **attributes: Attribute | None) -> None:
        pass


NO_SPAN = NoSpan()


class Tracing:
    """One process's way to the collector, made when its first span begins: so after a fork, not before."""

    def __init__(self, endpoint: str, service: str) -> None:
        self._endpoint, self._service = endpoint, service
        self._exporting: Exporting | None = None
        self._pid = 0

    def begin(
        self, name: str, kind: Kind = "internal", parent: str = "", **attributes: Attribute | None
    ) -> Span:
        """Begin a span under ``parent``, another's traceparent; under none, or a wrong one, a new trace."""
        exporting = self._of_this_process()
        return exporting.begin(name, kind, parent, given(attributes)) if exporting else NO_SPAN

    def close(self) -> None:
        """Send what has ended; takes EXPORT_WITHIN_S where the collector is away."""
        if self._exporting is not None and self._pid == os.getpid():
            self._exporting.close()

    def _of_this_process(self) -> Exporting | None:
        if not self._endpoint:
            return None
        if self._pid != os.getpid():
            self._pid, self._exporting = os.getpid(), None
            try:
                self._exporting = Exporting(self._endpoint, self._service)
            except ImportError as exc:
                log.warning("tracing_unavailable", missing=exc.name, cure="install the extra 'tracing'")
        return self._exporting


OFF = Tracing("", "")


def create_tracing(settings: Settings, service: str) -> Tracing:
    return Tracing(settings.otel_exporter_otlp_endpoint.rstrip("/"), f"transcription-{service}")


class Steps:
    """The steps of one attempt, each a span that lasts until the next begins.

    Args:
        parent: The attempt's traceparent.
    """

    def __init__(self, tracing: Tracing = OFF, parent: str = "") -> None:
        self._tracing, self._parent = tracing, parent
        self._span: Span = NO_SPAN

    def enter(self, name: str) -> None:
        self.leave()
        self._span = self._tracing.begin(f"step {name}", parent=self._parent)

    def leave(self, error: str | None = None) -> None:
        span, self._span = self._span, NO_SPAN
        span.end(error=error)


def given(attributes: dict[str, Attribute | None]) -> dict[str, Attribute]:
    """Those that have a value, under our own prefix."""
    return {f"transcription.{name}": value for name, value in attributes.items() if value is not None}


class Exporting:
    """The SDK's parts, of a provider of our own: nobody else's spans go through it. Raises ImportError."""

    def __init__(self, endpoint: str, service: str) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  may be missing
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        process = f"{socket.gethostname()}:{os.getpid()}"
        names = {"service.name": service, "service.instance.id": process, "service.version": __version__}
        # Its own exit handler would wait half a minute for a collector that is away.
        self._provider = TracerProvider(resource=Resource.create(names), shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=EXPORT_WITHIN_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("transcription", __version__)

    def begin(self, name: str, kind: Kind, parent: str, attributes: dict[str, Attribute]) -> Span:
        from opentelemetry.context import Context  # noqa: PLC0415
        from opentelemetry.trace import SpanKind  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import (  # noqa: PLC0415
            TraceContextTextMapPropagator,
        )

        above = TraceContextTextMapPropagator().extract({"traceparent": parent}, context=Context())
        started = self._tracer.start_span(name, above, SpanKind[kind.upper()], attributes)
        return SentSpan(started)

    def close(self) -> None:
        self._provider.shutdown()


@dataclass(frozen=True)
class SentSpan:
    _span: trace.Span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def end(self, name: str = "", error: str | None = None, **attributes: Attribute | None) -> None:
        from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415

        if name:
            self._span.update_name(name)
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.set_attributes(given(attributes))
        self._span.end()
