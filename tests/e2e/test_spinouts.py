"""A responsibility moves between real processes behind a real Envoy, and something breaks on the way: it is held or
back, it says why, and no request is lost to the machinery. More of them: test_spinout_faults.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.house import House, kill
from tests.e2e.moves import Move, answered

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def move(house: House, tmp_path: Path) -> Iterator[Callable[[str], Move]]:
    made: list[Move] = []

    def make(name: str) -> Move:
        made.append(Move(house, name, tmp_path))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_unit_with_errors_is_back_by_itself_and_moves_when_it_is_mended(move: Callable[[str], Move]) -> None:
    it = move("errs")
    it.apply()
    it.ready()
    it.bad_unit.write_text("fail=0.2")
    it.load()
    it.start()
    back = it.until("rolled_back")
    assert back["stoppedReason"] == "GateFailed"
    assert "success rate: worse" in it.say("explain")
    it.bad_unit.write_text("")
    it.start()
    it.until_weight(50)
    it.say("promote", "--full", "--evidence", "it is mended")
    it.until_weight(100)
    it.say("abort", "--why", "enough seen")
    it.until("rolled_back")
    result = it.stop_load()
    assert result.totals.failed == 0, result.failures[:5]
    assert 0 < result.totals.apart < 100, "what the unit itself answered with an error, and little of it"
    assert answered(result, "unit") > 0 < answered(result, "parent")
    assert "whole" in it.say("verify")


def test_a_unit_that_answers_otherwise_is_found_before_a_user_gets_its_answer(
    house: House, move: Callable[[str], Move]
) -> None:
    it = move("differs")
    it.apply(shadow={"minCompared": 10, "ignore": ["x-answered-by"]})
    it.ready()
    it.bad_unit.write_text("wrong=1")
    it.load()
    it.start()
    back = it.until("rolled_back")
    result = it.stop_load()
    assert back["stopped"].startswith("shadow parity")
    assert back["highestWeight"] == 0
    assert (result.totals.failed, result.totals.apart, answered(result, "unit")) == (0, 0, 0)
    shown = house.run("spinout", "diffs", it.name)
    assert shown.returncode == 1
    assert "/price: 1 -> 2" in shown.stdout
    assert "x-answered-by" not in shown.stdout


def test_a_unit_that_dies_for_good_is_back_and_the_parent_answers_all_the_rest(move: Callable[[str], Move]) -> None:
    it = move("dies")
    it.apply()
    it.ready()
    it.load()
    it.start()
    it.until_weight(50)
    it.sees_requests(40)
    it.bad_unit.write_text("down=1")
    it.kill_unit()
    back = it.until("rolled_back")
    assert back["stoppedReason"] in ("GateFailed", "UnitDown")
    ended = time.time()
    it.sees_answers(60)
    result = it.stop_load()
    assert [one for one in result.failures if one.unix_time > ended] == []
    assert {one.status for one in result.failures} <= {503, 502}, "each had an answer"
    assert result.totals.failed < 100


def test_a_unit_that_hangs_is_back(move: Callable[[str], Move]) -> None:
    """No answer is no failure for the data plane as long as its users wait, and none at all when they go away."""
    it = move("hangs")
    it.apply()
    it.ready()
    it.load(timeout=2)
    it.start()
    it.until_weight(50)
    it.bad_unit.write_text("hang=1")
    back = it.until("rolled_back", 40)
    assert "no answer" in back["stopped"]
    it.bad_unit.write_text("")
    ended = time.time()
    it.sees_answers(60)
    result = it.stop_load()
    assert [one for one in result.failures if one.unix_time - one.latency_ms / 1000 > ended] == []


def test_server_and_envoy_are_killed_in_a_ramp_and_on_the_way_back(house: House, move: Callable[[str], Move]) -> None:
    it = move("killed")
    it.apply()
    it.ready()
    it.load()
    it.start()
    it.until_weight(50)
    old = house.server_pid()
    kill(old)
    house.wait("the server is back", partial(is_another_ready, house, old))
    it.sees_requests(40)
    assert (it.state, it.status["shownWeight"]) == ("ramping", 5000)
    result = it.stop_load()
    assert result.totals.failed == 0, result.failures[:5]

    [envoy] = house.envoy_pids()
    kill(envoy)
    house.wait("another Envoy answers", lambda: envoy not in house.envoy_pids() and it.asks()[0] == 200)
    it.load()
    it.sees_requests(40)
    assert it.until_weight(50)["state"] == "ramping"

    it.say("abort", "--why", "a test")
    kill(house.server_pid())
    it.until("rolled_back", 30)
    it.sees_answers(40)
    result = it.stop_load()
    assert result.totals.failed == 0, result.failures[:5]
    assert answered(result, "unit") > 0
    assert {it.asks()[1] for _ in range(20)} == {"parent"}
    assert "whole" in it.say("verify")


def test_traffic_that_stops_is_waited_for_and_goes_on(move: Callable[[str], Move]) -> None:
    it = move("stops")
    it.apply(deadline="3s", steps=[{"weight": 50}, {"weight": 100, "pause": True}], gates={"success": {"margin": 1}})
    it.ready()
    it.load(30)
    it.start()
    it.until_weight(50)
    it.stop_load()
    held = it.until("held", 15)
    assert held["shownWeight"] == 5000, "neither risen nor back"
    assert "more requests on the unit's side" in held["needs"]
    assert "not decided within 3 s" in it.say("explain")
    it.load(150)
    it.until_weight(100, 30)
    assert it.stop_load().totals.failed == 0


def is_another_ready(house: House, old: int) -> bool:
    return house.server_pid() not in (0, old) and house.client.is_ready()
