"""The client's calls carry the trace of the program that makes them, if it has one."""

import subprocess
import sys

from opentelemetry.sdk.trace import TracerProvider

from tidegate_client import tracing


def test_call_within_a_span_carries_it() -> None:
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("outer") as span:
        context = span.get_span_context()
        ((key, value),) = tracing.context()
        assert key == "traceparent"
        assert value.startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
    assert tracing.context() == ()


def test_program_without_opentelemetry_does_not_get_it() -> None:
    program = (
        "import sys, tidegate_client; from tidegate_client import tracing; "
        "assert tracing.context() == (); assert 'opentelemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
