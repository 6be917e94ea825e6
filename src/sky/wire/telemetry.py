"""Spans as they leave a process: OpenTelemetry's library and OTLP over HTTP, from the extra `telemetry`.

Nothing of it is imported unless an endpoint is named, by `OTEL_EXPORTER_OTLP_ENDPOINT` or by `telemetry.endpoint` in
the configuration. The library's own variables (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER` …) count as usual.
Called by the server when it starts, and by clients whose environment names an endpoint.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from sky.kit.tracing import Recorder, Value
from sky.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import SpanContext, Tracer

ENV_ENDPOINT, ENV_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
#: Seconds that one delivery may take, and milliseconds between two.
_DELIVERY_S, _EACH_MS = 3, 1000.0


def recorder(
    service: str, env: Mapping[str, str], section: Mapping[str, object], *, patience: float = _DELIVERY_S
) -> Recorder | None:
    """The recorder that the environment or the section `telemetry` asks for; None if neither does.

    `patience` bounds one delivery, in seconds. Raises ValueError where the library is not installed.
    """
    named = section.get("endpoint")
    if not named and not env.get(ENV_ENDPOINT) and not env.get(ENV_TRACES_ENDPOINT):
        return None
    if env.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    said = section.get("service_name")
    address = f"{str(named).rstrip('/')}/v1/traces" if named else None
    return _made(str(said or env.get("OTEL_SERVICE_NAME") or service), address, patience)


def _made(service: str, address: str | None, patience: float) -> Recorder:
    try:
        # A tenth of a second and some megabytes, for those who asked for it.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as missing:
        raise ValueError(
            f"an endpoint for traces is named, and the library for them is not installed ({missing.name}); "
            "install it with: pip install 'altostratus[telemetry]'"
        ) from None
    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.version": __version__}))
    exporter = OTLPSpanExporter(endpoint=address, timeout=patience)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_EACH_MS))
    return _Otlp(provider)


class _Otlp:
    """See `kit.tracing.Recorder`."""

    def __init__(self, provider: "TracerProvider") -> None:
        self._provider = provider
        self._tracer: Tracer = provider.get_tracer("sky", __version__)

    def begin(self, name: str, parent: str, kind: str, attributes: Mapping[str, Value]) -> "_Span":
        from opentelemetry.trace import SpanKind  # noqa: PLC0415 - loaded by now

        kinds = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT}
        return _Span(
            self._tracer.start_span(
                name, _context(parent), kinds.get(kind, SpanKind.INTERNAL), dict(attributes),
                record_exception=False, set_status_on_exception=False,
            )
        )  # fmt: skip

    def ended(
        self, name: str, parent: str, begun: float, end: float, attributes: Mapping[str, Value], *, failed: bool
    ) -> None:
        made = self._tracer.start_span(
            name, _context(parent), attributes=dict(attributes), start_time=int(begun * 1e9)
        )  # fmt: skip
        if failed:
            _fail(made, "")
        made.end(int(end * 1e9))

    def close(self) -> None:
        self._provider.shutdown()


class _Span:
    def __init__(self, span: "OtelSpan") -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        own: SpanContext = self._span.get_span_context()
        return f"00-{own.trace_id:032x}-{own.span_id:016x}-{int(own.trace_flags):02x}"

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, **attributes: Value) -> None:
        self._span.set_attributes(attributes)

    def end(self, error: BaseException | None = None) -> None:
        if error is not None:
            # Of a failure its kind alone: its words may hold what a user said.
            _fail(self._span, type(error).__name__)
        self._span.end()


def _fail(span: "OtelSpan", kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode  # noqa: PLC0415 - loaded by now

    if kind:
        span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))


def _context(parent: str) -> "Context":
    """The library's form of a traceparent; that of nothing for an empty one, so that a trace begins."""
    from opentelemetry.context import Context  # noqa: PLC0415 - loaded by now
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context  # noqa: PLC0415

    if not parent:
        return Context()
    _, trace, above, flags = parent.split("-")
    told = SpanContext(int(trace, 16), int(above, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
    return set_span_in_context(NonRecordingSpan(told), Context())
