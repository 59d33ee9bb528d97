"""With the real opentelemetry-sdk: its context is the one that counts, and its spans are the ones that are made."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from typing import Any

import pytest

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def run(program: str) -> dict[str, Any]:
    """In a process of its own: a provider can be set only once."""
    whole = f"""
    import asyncio, json
    from opentelemetry import trace
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from spinyard_sdk import tracing, tracing_export
    from spinyard_sdk.tracing_web import AsgiTracing

    SAMPLED = {SAMPLED!r}
    ours, theirs = [], InMemorySpanExporter()
    tracing_export.record = ours.append
    def install():
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(theirs))
        trace.set_tracer_provider(provider)
    def said():
        spans = theirs.get_finished_spans()
        return [(s.name, f"{{s.context.span_id:016x}}", f"{{s.parent.span_id:016x}}" if s.parent else "",
                 f"{{s.context.trace_id:032x}}", s.kind.name, s.status.status_code.name, dict(s.attributes))
                for s in spans]
    """
    text = textwrap.dedent(whole) + textwrap.dedent(program)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_their_current_span_is_ours_and_our_children_are_theirs() -> None:
    found = run("""
        install()
        headers = {}
        with trace.get_tracer("app").start_as_current_span("request") as outer:
            context = outer.get_span_context()
            with tracing.child("work", "client", {"size": 3}) as span:
                span.set("more", "yes")
                tracing.inject(headers)
                with trace.get_tracer("app").start_as_current_span("query"):
                    pass
            after = tracing.current()
        print(json.dumps({"ours": len(ours), "theirs": said(), "headers": headers, "after": after.span_id,
                          "outer": f"{context.span_id:016x}", "end": tracing.current() is None}))
    """)
    query, work, request = found["theirs"]
    assert found["ours"] == 0 and found["end"]
    assert (work[0], work[2], work[4]) == ("work", request[1], "CLIENT")
    assert work[6] == {"size": 3, "more": "yes"}
    assert query[2] == work[1]
    assert found["headers"]["traceparent"] == f"00-{work[3]}-{work[1]}-01"
    assert found["after"] == found["outer"]


def test_a_request_continues_the_callers_trace_in_their_sdk_and_fails_there_too() -> None:
    found = run("""
        install()
        async def app(scope, receive, send):
            with trace.get_tracer("app").start_as_current_span("inside"):
                raise KeyError("secret")
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"traceparent", SAMPLED.encode())]}
        try:
            asyncio.run(AsgiTracing(app)(scope, None, None))
        except KeyError:
            pass
        print(json.dumps({"ours": len(ours), "theirs": said()}))
    """)
    inside, request = found["theirs"]
    assert found["ours"] == 0
    assert request[:6] == [
        "GET /",
        inside[2],
        "00f067aa0ba902b7",
        "4bf92f3577b34da6a3ce929d0e0e4736",
        "SERVER",
        "ERROR",
    ]
    assert "secret" not in json.dumps(request)


@pytest.mark.parametrize("begun", [True, False])
def test_where_their_instrumentation_has_begun_a_span_nothing_is_added(begun: bool) -> None:
    found = run(f"""
        install()
        async def app(scope, receive, send): pass
        async def instrumented():
            scope = {{"type": "http", "method": "GET", "path": "/", "headers": []}}
            if {begun}:
                with trace.get_tracer("app").start_as_current_span("theirs"):
                    await AsgiTracing(app)(scope, None, None)
            else:
                await AsgiTracing(app)(scope, None, None)
        asyncio.run(instrumented())
        print(json.dumps({{"theirs": said()}}))
    """)
    assert [one[0] for one in found["theirs"]] == (["theirs"] if begun else ["GET /"])


def test_without_a_provider_the_api_alone_changes_nothing() -> None:
    found = run("""
        with tracing.child("work", parent=tracing.parse(SAMPLED)):
            pass
        print(json.dumps({"ours": len(ours), "theirs": said()}))
    """)
    assert found == {"ours": 1, "theirs": []}
