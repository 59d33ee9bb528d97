"""The reachable states of a Spinout, as far as the time of a test goes; more: `python -m tests.spinout.explorer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from spinyard.spinout import decide, phases, retreat
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import SpinoutState
from tests.spinout.explorer import Broken, explore

STATES = 1000


def test_the_invariants_hold_in_every_state_that_was_reached(capsys: pytest.CaptureFixture[str]) -> None:
    found = explore(STATES, wrong_max=1)
    with capsys.disabled():
        print(f" {found.states} states, {found.passes} passes, {found.ends} ways back ", end="")
    assert found.states >= STATES
    assert found.phases == {str(state) for state in SpinoutState}


@contextmanager
def planted(module: Any, name: str, bug: Callable[..., Any]) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, bug)
    try:
        yield
    finally:
        setattr(module, name, before)


def rises_unconfirmed(s: SpinoutSnapshot) -> str:
    return ""


def no_guard(s: SpinoutSnapshot) -> None:
    return None


def no_floor(s: SpinoutSnapshot) -> str:
    return "" if s.in_traffic(s.spec.unit_uid) else "an instance"


def at_zero_unproven(s: SpinoutSnapshot) -> Any:
    return retreat.at_zero(s, "believed")


def parity_unproven(s: SpinoutSnapshot) -> phases.Outcome:
    with planted(phases, "holds_up", lambda gate: False):
        return phases.shadowing(s)


def unjudged_while_unready(s: SpinoutSnapshot, step: Any) -> list[str]:
    return [] if phases.may_not_rise(s) else WAITS(s, step)


WAITS = phases.waits


@pytest.mark.parametrize(
    ("module", "name", "bug"),
    [
        pytest.param(phases, "not_confirmed", rises_unconfirmed, id="a weight rises before it is confirmed"),
        pytest.param(retreat, "broken", no_guard, id="no guard"),
        pytest.param(phases, "may_not_rise", no_floor, id="the floor is ignored"),
        pytest.param(decide, "rolling_back", at_zero_unproven, id="back before it is proven"),
        pytest.param(phases, "holds_up", lambda gate: False, id="no gate holds up"),
        pytest.param(phases, "waits", unjudged_while_unready, id="a step is left unjudged while the unit is away"),
        pytest.param(decide, "hold_reason", lambda s, state: None, id="nothing holds it"),
    ],
)
def test_it_finds_what_is_planted(module: Any, name: str, bug: Callable[..., Any]) -> None:
    with planted(module, name, bug), pytest.raises(Broken):
        explore(4 * STATES, wrong_max=2)


def test_it_finds_that_shadowing_is_left_before_parity_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(phases.RULES, SpinoutState.SHADOWING, parity_unproven)
    with pytest.raises(Broken, match="shadowing is left"):
        explore(4 * STATES, wrong_max=2)
