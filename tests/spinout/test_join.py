"""The join rate: which requests count, and as what."""

from __future__ import annotations

import pytest

from spinyard.core.trace import GATEWAY_SERVICE, Span
from spinyard.spinout.join import SAMPLES_MAX, JoinRate, join_rate

UNIT = "default/thumbnails/abc"
LONG_AGO, SETTLED = 0, 1_000


def gateway(
    number: int = 1, parent: int = 0, *, trace: int = 1, cluster: str = UNIT, flags: str = "-", at: int = 10
) -> Span:
    attributes = {"spinyard.service": cluster, "response_flags": flags}
    return made(number, parent, trace, GATEWAY_SERVICE, "server", at, attributes)


def egress(number: int, parent: int, *, trace: int = 1) -> Span:
    return made(number, parent, trace, GATEWAY_SERVICE, "client", 10, {"spinyard.service": UNIT})


def span(number: int, parent: int = 0, *, service: str = "thumbnails", trace: int = 1) -> Span:
    return made(number, parent, trace, service, "server", 10, {})


def made(number: int, parent: int, trace: int, service: str, kind: str, at: int, attributes: dict[str, str]) -> Span:
    parent_id = f"{parent:016x}" if parent else ""
    return Span(
        trace_id=f"{trace:032x}",
        span_id=f"{number:016x}",
        parent_id=parent_id,
        name="x",
        kind=kind,  # type: ignore[arg-type]
        service=service,
        start_ns=at,
        end_ns=at,
        attributes=attributes,
    )


def rate(*traces: list[Span], since_ns: int = LONG_AGO, until_ns: int = SETTLED) -> JoinRate:
    return join_rate(traces, unit="thumbnails", clusters={UNIT}, since_ns=since_ns, until_ns=until_ns)


CASES = [
    pytest.param([gateway(), egress(2, 1), span(3, 2)], "joined", id="the unit's span is below the gateway's egress"),
    pytest.param([gateway(), egress(2, 1), span(3, 2), span(4, 3)], "joined", id="and once only"),
    pytest.param([gateway(), span(3, 1)], "joined", id="directly below"),
    pytest.param(
        [gateway(), egress(2, 1), span(3, 2, service="sidecar"), span(4, 3)], "joined", id="with somebody in between"
    ),
    pytest.param(
        [gateway(8, cluster="default/web/x"), span(9, 8, service="web"), gateway(1, 9), egress(2, 1), span(3, 2)],
        "joined",
        id="behind a parent that came through the gateway itself",
    ),
    pytest.param([gateway(), span(3, 2)], "broken", id="the span between them did not arrive"),
    pytest.param([gateway(), egress(2, 1), span(3)], "broken", id="the unit began anew in the same trace"),
    pytest.param([gateway(5), egress(2, 5), span(3, 77)], "broken", id="the unit hangs on an unknown parent"),
    pytest.param([gateway(), egress(2, 1)], "missing", id="nothing of the unit"),
    pytest.param([gateway(), egress(2, 1), span(3, 2, service="web")], "missing", id="only somebody else"),
    pytest.param([gateway(), span(3, 4), span(4, 3)], "broken", id="the unit's spans are a ring"),
    pytest.param([gateway(1, 3), span(3, 1)], "joined", id="a ring with the gateway in it"),
    pytest.param([gateway(at=SETTLED + 1), egress(2, 1)], "pending", id="too young to be missed"),
    pytest.param([gateway(at=SETTLED + 1), egress(2, 1), span(3, 2)], "pending", id="too young to be counted"),
]


@pytest.mark.parametrize(("spans", "result"), CASES)
def test_a_request_is_one_of_four(spans: list[Span], result: str) -> None:
    for order in (spans, spans[::-1]):
        found = rate(order)
        counts = {name: getattr(found, name) for name in ("joined", "broken", "missing", "pending")}
        assert counts == {**dict.fromkeys(counts, 0), result: 1}


NOT_COUNTED = [
    pytest.param([gateway(cluster="default/web/x")], id="it went to the parent"),
    pytest.param([gateway(flags="UF,URX")], id="no instance could be reached"),
    pytest.param([gateway(flags="UH")], id="there was no instance"),
    pytest.param([egress(2, 1), span(3, 2)], id="the gateway's own span is not there"),
    pytest.param([span(3)], id="it never came to the gateway"),
    pytest.param([gateway(at=5)], id="it was before the window"),
    pytest.param([], id="nothing at all"),
]


@pytest.mark.parametrize("spans", NOT_COUNTED)
def test_what_did_not_go_to_the_unit_is_not_counted(spans: list[Span]) -> None:
    found = rate(spans, since_ns=6)
    assert found == JoinRate() and found.share is None


def test_an_answer_that_was_lost_on_the_way_counts() -> None:
    assert rate([gateway(flags="UC"), egress(2, 1)]).missing == 1


def test_each_request_of_one_trace_is_counted_by_itself() -> None:
    found = rate([gateway(1), egress(2, 1), span(3, 2), gateway(4), egress(5, 4)])
    assert (found.joined, found.missing, found.broken) == (1, 1, 0)


def test_the_share_and_a_few_samples() -> None:
    good = [[gateway(trace=n), span(2, 1, trace=n)] for n in range(1, 91)]
    bad = [[gateway(trace=n), span(2, trace=n)] for n in range(101, 115)]
    found = rate(*good, *bad, [gateway(trace=7777)])
    assert found.share == 90 / 105
    assert found.broken_samples == tuple(f"{n:032x}" for n in range(101, 101 + SAMPLES_MAX))
    assert found.missing_samples == (f"{7777:032x}",)
