"""The store of recent traces: its bounds hold whatever comes."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pytest

from spinyard.ports.traces import TraceFilter, TraceSummary
from spinyard.telemetry.store import SPANS_OF_A_SERVICE_MAX, SPANS_OF_A_TRACE_MAX, TraceStore
from tests.telemetry.exports import START, TRACE, identity, span


class HandClock:
    def __init__(self) -> None:
        self.at = 1_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep(self, seconds: float) -> None:
        raise AssertionError

    def new_uid(self) -> str:  # type: ignore[override]
        raise AssertionError


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def store_of(clock: HandClock, **limits: float) -> TraceStore:
    return TraceStore(clock, **limits)  # type: ignore[arg-type]


def test_spans_of_a_trace_are_found_by_time_in_whatever_order_they_came(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([span(3, 2, at=20)])
    store.add([span(2, 1, at=10), span(1, at=0), span(5, trace=identity(9, 32))])
    assert [one.span_id for one in store.find(TRACE.upper())] == [identity(1), identity(2), identity(3)]
    assert store.find(identity(8, 32)) == ()


def test_what_is_sent_again_is_there_once(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([span(1)])
    size = store.size_bytes
    assert store.add([replace(span(1), name="other")]) == 0
    assert store.size_bytes == size and [one.name for one in store.find(TRACE)] == ["span 1"]


def test_old_traces_go(clock: HandClock) -> None:
    store = store_of(clock, age_seconds_max=60)
    store.add([span(1)])
    clock.at += 50
    store.add([span(2, trace=identity(7, 32))])
    clock.at += 11
    assert store.find(TRACE) == () and store.find(identity(7, 32))
    clock.at += 60
    assert store.recent(TraceFilter(), 10) == [] and store.size_bytes == 0 and store.dropped == 0


def test_the_oldest_trace_goes_when_there_are_too_many_bytes(clock: HandClock) -> None:
    store = store_of(clock, bytes_max=30_000)
    for number in range(1, 100):
        store.add([span(1, trace=identity(number, 32)), span(2, 1, trace=identity(number, 32))])
        clock.at += 10
    assert 20_000 < store.size_bytes <= 30_000
    assert store.find(identity(99, 32)) and not store.find(identity(1, 32))
    assert store.dropped + sum(one.spans for one in store.recent(TraceFilter(), 1000)) == store.received == 198


def flood(store: TraceStore, clock: HandClock, seconds: int, per_second: int, first: int = 0) -> int:
    """Requests of two spans each, the second a moment later; ids end as random ones do."""
    number = first
    for _ in range(seconds):
        for _ in range(per_second):
            number += 1
            store.add([span(1, trace=flooded(number))])
            store.add([span(2, 1, trace=flooded(number - 3))] if number > first + 3 else [])
        clock.at += 1
    return number


def flooded(number: int) -> str:
    return identity(number) + identity(number * 40503 % 65536)


def test_under_a_flood_fewer_traces_are_kept_for_longer_and_each_is_whole(clock: HandClock) -> None:
    store = store_of(clock, bytes_max=1_000_000)
    flood(store, clock, seconds=120, per_second=100)
    assert store.one_of == 16
    kept = store.recent(TraceFilter(), 1000)
    assert len(kept) > 150
    halves = [one for one in kept if one.spans == 1]
    assert len(halves) <= 3, "but for those of this moment"


def test_after_the_flood_all_are_kept_again_and_it_is_said_from_when_on(clock: HandClock) -> None:
    store = store_of(clock, bytes_max=1_000_000)
    number = flood(store, clock, seconds=20, per_second=100)
    assert store.one_of > 1
    steady = store.steady_since
    for _ in range(6):
        clock.at += 700
        number = flood(store, clock, seconds=1, per_second=1, first=number)
    assert store.one_of == 1
    assert store.steady_since > steady


def test_what_comes_late_of_a_trace_that_has_gone_is_not_another_trace(clock: HandClock) -> None:
    store = store_of(clock, age_seconds_max=60)
    store.add([span(1)])
    clock.at += 61
    assert store.find(TRACE) == ()
    store.add([span(2, 1)])
    assert store.find(TRACE) == () and store.dropped == 1


def test_a_trace_takes_only_so_many_spans_and_says_so(clock: HandClock) -> None:
    store = store_of(clock)
    numbers = range(SPANS_OF_A_TRACE_MAX + 5)
    refused = store.add(span(number + 1, service=f"service {number % 100}") for number in numbers)
    assert (refused, store.dropped, len(store.find(TRACE))) == (5, 5, SPANS_OF_A_TRACE_MAX)


def test_a_service_that_fills_a_trace_leaves_room_for_the_others(clock: HandClock) -> None:
    store = store_of(clock)
    of_gateway = (span(number + 1, service="gateway") for number in range(SPANS_OF_A_TRACE_MAX))
    assert store.add(of_gateway) == SPANS_OF_A_TRACE_MAX - SPANS_OF_A_SERVICE_MAX
    assert store.add(span(10_000 + number, service="unit") for number in range(100)) == 0


def test_a_trace_that_lacks_spans_is_shown_but_is_none_to_count_by(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([*(span(number + 1) for number in range(SPANS_OF_A_SERVICE_MAX)), span(1, trace=identity(7, 32))])
    assert len(list(store.since(0))) == 2
    assert store.add([span(10_000)]) == 1
    assert [{one.trace_id for one in spans} for spans in store.since(0)] == [{identity(7, 32)}]
    assert len(store.find(TRACE)) == SPANS_OF_A_SERVICE_MAX


@pytest.mark.parametrize(
    "attributes",
    [{}, {f"attribute.{n}": f"a value of {n}" for n in range(20)}, {f"k{n}": "\U0001f600" * 500 for n in range(10)}],
    ids=["none", "many", "long and not ASCII"],
)
def test_what_it_says_it_takes_is_what_it_takes(clock: HandClock, attributes: dict[str, str]) -> None:
    store = store_of(clock, bytes_max=3_000_000)
    tracemalloc.start()
    try:
        number = 0
        while not store.dropped:
            number += 1
            copied = {key: value[:-1] + str(number % 10) for key, value in attributes.items()}
            name, trace = f"name {number}", identity(number // 4, 32)
            store.add([span(number, trace=trace, attributes=copied, name=name, service=f"service {number % 7}")])
        real = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.3 * store.size_bytes < real < 1.1 * store.size_bytes


def test_recent_ones_are_filtered_and_sorted(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([span(1, trace=identity(1, 32), service="web", side="parent", for_ms=30)])
    store.add([span(1, trace=identity(2, 32), service="web", for_ms=500, error=True)])
    store.add([span(2, 1, trace=identity(2, 32), service="thumbnails", side="unit", at=600, for_ms=10)])
    store.add([span(1, trace=identity(3, 32), service="web", for_ms=5)])

    def found(limit: int = 10, *, slowest: bool = False, **wanted: object) -> list[int]:
        chosen = store.recent(TraceFilter(**wanted), limit, slowest=slowest)  # type: ignore[arg-type]
        return [int(one.trace_id, 16) for one in chosen]

    assert found() == [3, 2, 1]
    assert found(2) == [3, 2]
    assert found(slowest=True) == [2, 1, 3]
    assert found(2, slowest=True) == [2, 1]
    assert found(failed=True) == found(service="thumbnails") == found(side="unit") == [2]
    assert found(slower_than_seconds=0.02) == [2, 1]
    assert found(service="web", side="parent") == [1]
    assert found(service="nobody") == []


def test_a_summary_names_what_began_the_trace_also_when_that_comes_last(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([span(2, 1, at=5, for_ms=2, service="unit", side="unit")])
    store.add([span(1, at=0, for_ms=10, name="GET /", service="gateway")])
    (one,) = store.recent(TraceFilter(), 10)
    assert one == TraceSummary(
        TRACE, "GET /", "gateway", START, START + 10_000_000, 2, 0, ("unit", "gateway"), ("unit",)
    )


def test_a_window_has_the_traces_of_which_something_came_since(clock: HandClock) -> None:
    store = store_of(clock)
    store.add([span(1), span(1, trace=identity(1, 32))])
    clock.at += 100
    store.add([span(2, 1)])
    assert [{one.trace_id for one in spans} for spans in store.since(clock.at - 10)] == [{TRACE}]
    assert len(list(store.since(clock.at - 100))) == 2
