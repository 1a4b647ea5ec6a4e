"""The W3C trace context of a program that uses OpenTelemetry. Nothing is loaded for a program that does not, and no span is made here."""

import sys


def context() -> tuple[tuple[str, str], ...]:
    """Metadata that make the server's span part of the current trace; none if this program has no OpenTelemetry."""
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415 -- the program has it loaded

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
