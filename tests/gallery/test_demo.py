"""The demo's own honesty: whose errors are whose, and how a rollout is shown."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from examples.gallery import claims, rollouts
from examples.gallery.claims import ClaimAct
from examples.gallery.report import blame, report
from examples.gallery.report_spinout import lost
from examples.gallery.rollouts import BAD, GOOD, RolloutAct
from examples.gallery.show import Show
from examples.gallery.show_rollout import rollout_line, rollout_picture
from examples.gallery.stage import FILE, BrokenPromise, Stage
from spinyard.manifest import load
from spinyard.testing.load_result import Failure, GeneratorReport, Latency, LoadResult, Totals

Json = dict[str, Any]


def failure(*, apart: bool = False, version: str = "", phase: str = "steady", unsafe: bool = False) -> Failure:
    headers = {"x-gallery-version": version} if version else {}
    return Failure(
        *(1.0, 1.0, 1.0, phase, phase, "one", "POST" if unsafe else "GET", "/photos", unsafe, None, 500, None, True),
        *(0, 1.0, headers, "", apart),
    )


def result(*failures: Failure, last: float = 104.0) -> LoadResult:
    apart = sum(one.apart for one in failures)
    latency = Latency(1, 1, 1, 1, 1, 1)
    totals = Totals(100, 100 - len(failures), len(failures) - apart, 0, latency, apart)
    return LoadResult(
        *("http://127.0.0.1", "gallery.localhost", 80.0, 9.0, 9.0, 0.0, "stop", totals, {}, {}, {}),
        headers={"x-gallery-version": {BAD: 20}},
        failures=list(failures),
        failures_not_kept=0,
        generator=GeneratorReport(0, 0, 0, 1, 0, 1),
        times={BAD: (100.0, last)},
    )


def reported(found: LoadResult, left: list[str], why: str = "GateFailed") -> tuple[bool, str]:
    show, stage = Show(), Stage(Path("/nowhere"), "127.0.0.1:1")
    paper = io.StringIO()
    show.console = Console(file=paper, width=120)
    act = RolloutAct(stage, show, lambda: pytest.fail("no load"), first=100.0, zero=104.5)
    act.ended.append({"status": {"state": "rolled_back", "stoppedReason": why}})
    good = report(show, ClaimAct(stage, cold=1.5, warm=0.05), act, found, left, [])
    return good, paper.getvalue()


def test_only_what_the_bad_version_marked_is_not_lost() -> None:
    own = failure(apart=True, version=BAD)
    lost = failure(apart=True, version=GOOD), failure(version=BAD), failure(), failure(unsafe=True)
    found = blame(result(own, *lost, failure(unsafe=True, phase="kill instance")))
    assert (found.own, found.unsafe, found.lost) == (1, 1, 4)
    assert found.failures == lost


def test_errors_of_the_bad_version_break_no_promise_and_are_told() -> None:
    good, said = reported(result(*[failure(apart=True, version=BAD)] * 4), [])
    assert good
    assert "4 of 20" in said
    assert "1.5 s / 50 ms" in said


@pytest.mark.parametrize(
    ("found", "left"),
    [
        pytest.param(result(failure()), [], id="a lost request"),
        pytest.param(result(failure(apart=True, version=GOOD)), [], id="an error of the good version"),
        pytest.param(result(last=104.6), [], id="a request to the bad version after 0 %"),
        pytest.param(result(), ["process 7"], id="something is left"),
    ],
)
def test_a_broken_promise_is_seen(found: LoadResult, left: list[str]) -> None:
    good, said = reported(found, left)
    assert not good
    assert "✗" in said


def test_a_version_that_went_back_for_another_reason_than_its_errors_is_no_promise_kept() -> None:
    good, said = reported(result(), [], "Aborted")
    assert not good
    assert "Aborted" in said


def marked_by(instance: str) -> Failure:
    return replace(failure(apart=True), headers={"x-gallery-instance": instance})


def test_only_what_the_bad_unit_itself_marked_is_not_lost_to_the_machinery() -> None:
    gallerys = marked_by("gallery-1")
    assert lost(result(marked_by("thumbs-1"), gallerys), result(failure()))[:2] == (2, 1)
    assert gallerys in lost(result(gallerys))[2]


def rollout(**status: object) -> Json:
    return {"status": {"state": "judging", "shownWeight": 1000, **status}}


def test_a_rollout_in_a_line_and_in_a_picture() -> None:
    seen = rollout(old={"requests": 1000, "failures": 1}, new={"requests": 20, "failures": 4}, needs="more <requests>")
    assert rollout_line(seen).startswith("10 % of the requests on the new version, judging")
    step = {"weight": 1000, "old": {"requests": 128}, "new": {"requests": 9, "failures": 2}, "how": "failed"}
    assert rollout_line(rollout(steps=[{}, step])).endswith("; at 10 %: old 0 of 128, new 2 of 9 failed: failed")
    paper = io.StringIO()
    Console(file=paper, width=120).print(rollout_picture(BAD, seen))
    drawn = paper.getvalue()
    assert "old 99.9 % of 1000   new 80 % of 20" in drawn
    assert drawn.count("█") == 3
    assert rollout_line(rollout(shownWeight=0)) == "0 % of the requests on the new version, judging"


def test_the_files_of_the_acts_are_right(tmp_path: Path) -> None:
    stage = Stage(tmp_path, "127.0.0.1:1")
    pool = stage.variant(claims.FILE, "pool.yaml", {"  min: 1\n": "  min: 0\n"})
    act = RolloutAct(stage, Show(), lambda: pytest.fail("no load"))
    for file in (pool, act.file(BAD, rollouts.FAIL_RATE, replicas=2), claims.FILE):
        manifests, problems = load(file.read_text(), file.name, base_dir=str(file.parent))
        assert (len(manifests), problems) == (1, []), problems
    with pytest.raises(BrokenPromise, match="once"):
        stage.variant(FILE, "x.yaml", {"no such words": ""})
