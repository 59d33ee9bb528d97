"""A call over a boundary: where it runs, what it gives, and what happens when something in between breaks."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from spinyard_sdk import boundary as sdk
from spinyard_sdk import exchange, sides, tracing
from spinyard_sdk.context import Request, deadline, within
from spinyard_sdk.failures import DeadlineExceeded, NotTyped, RemoteError
from spinyard_sdk.unit import serve
from spinyard_sdk.wire import KEY_HEADER, PARENT, SHADOW_HEADER, SIDE_HEADER, UNIT
from tests.sdk import thumbs
from tests.sdk.boundaries import Middle, keys_of, say_problem, serving, tell

ALL = 10_000


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test begins as a process does that has heard nothing."""
    monkeypatch.delenv("SPINYARD_FLAGS", raising=False)
    sides._SOURCE.forget()
    for state in sides._SOURCE.states().values():
        state.counts = sides.Counts()
        state._said.clear()
    exchange._LINES.forget()
    thumbs.RAN.clear()
    thumbs.REMAINING.clear()
    thumbs.TRACES.clear()
    thumbs.STOPPED.clear()
    thumbs.BEGAN.clear()
    sdk.COMPARISONS.samples.clear()
    yield
    assert sdk.COMPARISONS.wait_idle(10)
    sides._SOURCE.forget()


@pytest.fixture
def unit() -> Any:
    """Served in this process, which is its parent too: so it must not believe that it is the unit."""
    app = serve(thumbs)
    for name in ("thumbs", "albums"):
        sides.state_of(name).is_served_here = False

    async def marked(scope: Any, receive: Any, send: Any) -> None:
        thumbs.PLACE[id(asyncio.get_running_loop())] = "unit"
        await app(scope, receive, send)

    return marked


@pytest.fixture
def middle(unit: Any) -> Iterator[Middle]:
    found = Middle(unit)
    with serving(found) as port:
        found.port = port  # type: ignore[attr-defined]
        yield found


def tell_all(middle: Middle, weight: int, shadow: int = 0) -> None:
    middle.weight = weight
    tell("thumbs", middle.port, weight=weight, shadow=shadow)  # type: ignore[attr-defined]


def places(what: str = "") -> list[str]:
    return [where for where, did in thumbs.RAN if not what or did == what]


def counts() -> sides.Counts:
    return sdk.counts()["thumbs"]


# -- where a call runs -------------------------------------------------------------------------------------------------


def test_without_a_control_plane_everything_is_local_and_no_thread_is_there() -> None:
    before = threading.active_count()
    assert thumbs.render("a").where == "parent"
    assert asyncio.run(thumbs.find("a")) == "parent"
    assert threading.active_count() == before


def test_a_call_runs_on_the_side_of_its_key(middle: Middle) -> None:
    tell_all(middle, 3_000)
    ours, theirs = keys_of(PARENT, 3_000), keys_of(UNIT, 3_000)
    assert {thumbs.render(key).where for key in ours} == {"parent"}
    assert {thumbs.render(key).where for key in theirs} == {"unit"}
    assert {asyncio.run(thumbs.find(key)) for key in theirs} == {"unit"}
    assert [seen[KEY_HEADER] for seen in middle.seen] == theirs + theirs
    assert (counts().local, counts().remote) == (3, 6)


def test_what_comes_back_is_what_the_function_returns(middle: Middle) -> None:
    tell_all(middle, ALL)
    assert thumbs.render("a", size=7) == thumbs.Thumb("a", 7, "unit", bytes(range(256)))
    assert middle.seen[0][":path"] == "/thumbs/render"
    assert middle.seen[0]["host"] == "thumbs.default.boundary.internal"


def test_a_class_leaves_with_its_public_methods(middle: Middle) -> None:
    tell("albums", middle.port, weight=ALL)  # type: ignore[attr-defined]
    albums = thumbs.Albums()
    assert albums.count("a", 1, 2, by=3, more=4) == 10
    assert asyncio.run(albums.rename("a", "b")) == "unit:b"
    assert albums.shape("a") == thumbs.Albums.shape("a") == "unit"
    assert albums._private() == "parent"
    assert thumbs.Albums.__spinyard_boundary__.name == "albums"  # type: ignore[attr-defined]
    assert set(thumbs.Albums.__spinyard_boundary__.functions) == {"count", "rename", "shape"}  # type: ignore[attr-defined]


def test_what_was_decided_at_the_first_hop_holds(middle: Middle) -> None:
    tell_all(middle, 3_000)
    ours, theirs = keys_of(PARENT, 3_000)[0], keys_of(UNIT, 3_000)[0]
    with within(Request(PARENT)):
        assert thumbs.render(theirs).where == "parent"
    with within(Request(UNIT)):
        assert thumbs.render(ours).where == "unit"
    assert [seen.get(SIDE_HEADER) for seen in middle.seen] == [UNIT]


def test_without_a_key_function_the_key_of_the_request_decides(middle: Middle) -> None:
    tell_all(middle, 3_000)
    assert thumbs.by_request() == "parent"
    with within(Request(key=keys_of(UNIT, 3_000)[0])):
        assert thumbs.by_request() == "unit"


def test_a_key_that_cannot_travel_stays_with_the_parent(middle: Middle) -> None:
    tell_all(middle, ALL)
    assert [thumbs.render(key).where for key in ("Jörg", "", " a", "a\n")] == ["parent"] * 4
    assert (middle.seen, counts().fell_back) == ([], {"no_key": 4})


def test_a_stale_weight_cannot_defeat_a_rollback(middle: Middle) -> None:
    tell_all(middle, ALL)
    assert thumbs.render("a").where == "unit"
    middle.weight = 0  # Envoy's; we have heard nothing
    assert thumbs.render("a").where == "parent"
    assert asyncio.run(thumbs.find("a")) == "parent"
    with within(Request(UNIT)):
        assert thumbs.render("a").where == "parent"
    assert counts().fell_back == {"told": 3}
    assert places() == ["unit", "parent", "parent", "parent"]


def test_a_unit_calls_its_own_functions_directly(middle: Middle) -> None:
    tell_all(middle, ALL)
    serve(thumbs)
    try:
        assert thumbs.render("a").where == "parent", "the process that serves it has called over the network"
        assert middle.seen == []
    finally:
        sides.state_of("thumbs").is_served_here = False


# -- what goes wrong ---------------------------------------------------------------------------------------------------


def test_a_declared_exception_comes_back_as_itself(middle: Middle) -> None:
    tell_all(middle, ALL)
    for call in (lambda: thumbs.render("missing", 3), lambda: asyncio.run(thumbs.find("missing"))):
        with pytest.raises(thumbs.NoSuchPhoto) as found:
            call()
        assert str(found.value) == "no photo missing"
        assert found.value.photo == "missing"
    assert places() == ["unit", "unit"]


def test_any_other_exception_is_a_remote_error_and_its_words_stay_there(middle: Middle) -> None:
    tell_all(middle, ALL)
    with pytest.raises(RemoteError) as found:
        thumbs.render("broken")
    assert (found.value.code, found.value.boundary, found.value.function) == ("internal", "thumbs", "render")
    assert "secret" not in str(found.value)
    assert places() == ["unit"], "a call that failed in the unit must not run a second time"


@pytest.mark.parametrize("code", ["no_route", "no_instance", "overloaded", "instance_unreachable"])
def test_what_envoy_never_sent_runs_here(middle: Middle, code: str) -> None:
    tell_all(middle, ALL)
    middle.say = say_problem(code)
    assert thumbs.store("a") == "parent"
    assert asyncio.run(thumbs.find("a")) == "parent"
    assert counts().fell_back == {code: 2}


def test_what_envoy_may_have_sent_is_an_error_unless_twice_is_as_once(middle: Middle) -> None:
    tell_all(middle, ALL)
    middle.say = say_problem("connection_lost")
    with pytest.raises(RemoteError) as found:
        thumbs.store("a")
    assert (found.value.code, found.value.may_have_run, places()) == ("connection_lost", True, [])
    assert thumbs.store_again("a") == "parent"


def test_only_idempotent_calls_have_a_key_that_lets_envoy_repeat_them(middle: Middle) -> None:
    tell_all(middle, ALL)
    thumbs.store("a")
    thumbs.store_again("a")
    thumbs.store_again("a")
    found = [seen.get("idempotency-key") for seen in middle.seen]
    assert found[0] is None
    assert found[1] and found[2] and found[1] != found[2]
    # With such a key Envoy may have tried before, so its last word says nothing about the first try.
    middle.say = say_problem("instance_unreachable")
    assert thumbs.store_again("a") == "parent"
    assert counts().fell_back == {"connection_lost": 1}


def test_nobody_listens_and_the_call_runs_here() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        tell("thumbs", closed.getsockname()[1], weight=ALL)
        assert thumbs.store("a") == "parent"
        assert asyncio.run(thumbs.find("a")) == "parent"
    assert counts().fell_back == {"unreachable": 2}


def test_in_another_event_loop_than_asyncios_the_call_runs_here() -> None:
    tell("thumbs", 9, weight=ALL)
    assert trio.run(thumbs.find, "a") == "parent"
    assert counts().fell_back == {"unreachable": 1}


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200 OK\r\ncontent-len", b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"par']
)
def test_a_connection_that_breaks_after_the_request_is_no_silent_second_run(cut: bytes) -> None:
    with listening(cut) as (port, taken):
        tell("thumbs", port, weight=ALL)
        for call in (lambda: thumbs.store("a"), lambda: asyncio.run(thumbs.render_slowly("a", 0.0))):
            with pytest.raises(RemoteError) as found:
                call()
            assert found.value.code == "connection_lost"
        assert places() == []
        assert thumbs.store_again("a") == "parent"
        assert len(taken) == 3, "the request was sent again"


def test_a_kept_connection_that_was_closed_meanwhile_is_not_used(middle: Middle) -> None:
    tell_all(middle, ALL)
    assert thumbs.store("a") == "unit"
    (lines,) = exchange._LINES._idle.values()
    other = lines[0].socket
    assert thumbs.store("a") == "unit"
    assert lines[0].socket is other, "a good connection is kept"
    other.shutdown(socket.SHUT_RDWR)
    assert thumbs.store("a") == "unit"
    assert counts().remote == 3


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((200, {"content-type": "application/json"}, b'{"photo":1}'), "bad_answer"),
        ((200, {"content-type": "application/json"}, b"<html>"), "bad_answer"),
        ((500, {}, b"oops"), "http_500"),
        ((404, {"content-type": "application/problem+json"}, b"\xff"), "http_404"),
        ((421, {}, b"local"), "http_421"),
    ],
    ids=["other type", "no JSON", "500", "broken problem", "421 of somebody else"],
)
def test_an_answer_that_is_none_is_an_error_with_a_code(middle: Middle, answer: Any, code: str) -> None:
    tell_all(middle, ALL)
    middle.say = answer
    with pytest.raises(RemoteError) as found:
        thumbs.render("a")
    assert (found.value.code, places()) == (code, [])


def test_arguments_that_have_no_form_run_here(middle: Middle) -> None:
    tell_all(middle, ALL)
    assert thumbs.store_again("a") == "unit"
    thumbs.RAN.clear()
    marker = object()
    with pytest.raises(TypeError):
        thumbs.store("a", marker)  # type: ignore[call-arg]
    assert thumbs.render("a", size=marker).size is marker  # type: ignore[arg-type]
    # JSON has no infinity: what the unit refuses before it begins runs here too.
    assert thumbs.odd("a", float("inf")) == float("inf")
    assert set(places()) == {"parent"}
    assert counts().fell_back == {"no_key": 1, "no_form": 1, "invalid_arguments": 1}


# -- time --------------------------------------------------------------------------------------------------------------


def test_a_unit_that_hangs_costs_no_more_than_the_deadline(middle: Middle) -> None:
    tell_all(middle, ALL)
    middle.hang.set()
    for call in (lambda: thumbs.store("a"), lambda: asyncio.run(thumbs.find("a"))):
        began = time.monotonic()
        with deadline(0.2), pytest.raises(DeadlineExceeded) as found:
            call()
        assert 0.1 < time.monotonic() - began < 1.5
        assert isinstance(found.value, TimeoutError)
    assert counts().failed == {"deadline_exceeded": 2}


def test_the_unit_knows_how_long_the_caller_waits(middle: Middle) -> None:
    tell_all(middle, ALL)
    with deadline(0.5):
        thumbs.render("a")
    assert thumbs.REMAINING[0] is not None
    assert 0 < thumbs.REMAINING[0] <= 0.5


def test_a_deadline_that_is_over_sends_nothing(middle: Middle) -> None:
    tell_all(middle, ALL)
    with deadline(0.0), pytest.raises(DeadlineExceeded):
        thumbs.render("a")
    assert (middle.seen, places()) == ([], [])


def test_the_units_function_ends_when_its_caller_is_cancelled(middle: Middle) -> None:
    tell_all(middle, ALL)

    async def cancelled() -> None:
        task = asyncio.create_task(thumbs.render_slowly("a", 30.0))
        await asyncio.to_thread(thumbs.BEGAN.wait, 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert thumbs.STOPPED.wait(5), "the unit went on"
    assert places() == ["unit"]


def test_a_deadline_ends_the_units_function_too(middle: Middle) -> None:
    tell_all(middle, ALL)
    with deadline(0.3), pytest.raises(DeadlineExceeded):
        asyncio.run(thumbs.render_slowly("a", 30.0))
    assert thumbs.STOPPED.wait(5)


# -- trace -------------------------------------------------------------------------------------------------------------


def test_the_trace_goes_on_in_the_unit(middle: Middle) -> None:
    tell_all(middle, ALL)
    with tracing.child("page") as page:
        thumbs.render("a")
    (trace,) = thumbs.TRACES
    assert trace == page.context.trace_id
    assert page.context.trace_id in middle.seen[0]["traceparent"]
    assert page.context.span_id not in middle.seen[0]["traceparent"], "the call has a span of its own"


# -- both --------------------------------------------------------------------------------------------------------------


def test_in_a_parallel_run_the_parent_answers_and_the_unit_is_compared(middle: Middle) -> None:
    tell_all(middle, 0, shadow=ALL)
    assert thumbs.sort_tags("a", ["b", "a"]) == ["a", "b"]
    with pytest.raises(thumbs.NoSuchPhoto):
        asyncio.run(thumbs.find("missing"))
    assert sdk.COMPARISONS.wait_idle(10)
    assert sorted(thumbs.RAN) == [("parent", "find"), ("parent", "sort_tags"), ("unit", "find"), ("unit", "sort_tags")]
    assert (counts().compared, counts().different) == (2, 0)
    assert all(SHADOW_HEADER in seen for seen in middle.seen)


def test_a_difference_is_told_without_its_values(middle: Middle) -> None:
    tell_all(middle, 0, shadow=ALL)
    assert thumbs.where_it_ran("a") == "parent"
    thumbs.render("a")
    assert sdk.COMPARISONS.wait_idle(10)
    assert (counts().compared, counts().different) == (2, 2)
    found = {(one.function, one.path, one.parent, one.unit) for one in sdk.samples()["thumbs"]}
    assert found == {("where_it_ran", "$", "text of 6", "text of 4"), ("render", "$.where", "text of 6", "text of 4")}


def test_only_what_is_safe_runs_on_both_sides(middle: Middle) -> None:
    tell_all(middle, 0, shadow=ALL)
    thumbs.store("a")
    assert sdk.COMPARISONS.wait_idle(10)
    assert (places(), middle.seen) == (["parent"], [])


def test_a_unit_refuses_a_comparison_with_what_is_not_safe(middle: Middle, unit: Any) -> None:
    tell_all(middle, ALL)
    call = exchange.Call(
        ("127.0.0.1", middle.port),  # type: ignore[attr-defined]
        "/thumbs/store",
        {"host": "h", "content-type": "application/json", SHADOW_HEADER: "1", KEY_HEADER: "a"},
        b'{"photo":"a"}',
    )
    assert exchange.exchange(call, time.monotonic() + 5).status == 409
    assert places() == []


def test_a_unit_that_hangs_neither_slows_nor_fails_a_parallel_run(middle: Middle) -> None:
    tell_all(middle, 0, shadow=ALL)
    middle.hang.set()
    began = time.monotonic()
    for _ in range(200):
        assert thumbs.where_it_ran("a") == "parent"
    took = time.monotonic() - began
    assert took < 1.5, f"200 calls took {took:.2f} s beside a unit that hangs"
    assert counts().not_compared["no_room"] > 100
    middle.hang.clear()


# -- what may be a boundary --------------------------------------------------------------------------------------------


def test_a_function_without_hints_is_refused_where_it_is_written() -> None:
    with pytest.raises(NotTyped, match="size, return"):

        @sdk.boundary("x", key=str)
        def render(photo: str, size):  # type: ignore[no-untyped-def]
            return b""


def test_generators_and_empty_classes_are_refused() -> None:
    with pytest.raises(NotTyped, match="generator"):

        @sdk.boundary("x")
        def pages() -> Iterator[int]:
            yield 1

    with pytest.raises(NotTyped, match="no public methods"):

        @sdk.boundary("x")
        class Nothing:
            pass


class listening:
    """Takes requests, answers that much, and closes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.taken: list[bytes] = []

    def __enter__(self) -> tuple[int, list[bytes]]:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self._socket.getsockname()[1], self.taken

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                data = b""
                while not (b"\r\n\r\n" in data and data.endswith(b"}")):
                    data += connection.recv(65536)
                self.taken.append(data)
                connection.sendall(self._answer)
