"""The act of the spinout: its files, and that a broken promise is seen."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from examples.gallery.play import Play
from examples.gallery.report_spinout import AFTER, BEFORE, report
from examples.gallery.show import Show
from examples.gallery.show_spinout import spinout_line, spinout_picture
from examples.gallery.spinouts import MONOLITH, SPINOUT, SpinoutDemo
from examples.gallery.stage import BrokenPromise, Json, Stage
from spinyard.manifest import load
from spinyard.testing.load_result import Failure, LoadResult, Totals
from tests.gallery.test_demo import failure, result

STOPPED = {"stopped": "success rate: too many", "stoppedReason": "GateFailed"}
BACKS = [("20 % errors", 0.4, {"status": STOPPED})]


def run(*failures: Failure) -> LoadResult:
    found = result(*failures)
    phase: Totals = found.totals
    return replace(found, phases={BEFORE: phase, AFTER: phase})


def of_unit() -> Failure:
    return replace(failure(apart=True), headers={"x-gallery-instance": "thumbs-1"})


def reported(
    pages: LoadResult, thumbs: LoadResult, left: list[str], backs: list[tuple[str, float, Json]] = BACKS
) -> tuple[bool, str]:
    show, paper = Show(), io.StringIO()
    show.console = Console(file=paper, width=120)
    return report(show, pages, thumbs, backs, left), paper.getvalue()


def test_errors_that_the_bad_version_marked_break_no_promise_and_are_told() -> None:
    good, said = reported(run(), run(of_unit(), of_unit()), [])
    assert good
    assert "too many" in said
    assert "lost to the machinery" in said


@pytest.mark.parametrize(
    ("pages", "thumbs", "left"),
    [
        pytest.param(run(failure()), run(), [], id="a lost page"),
        pytest.param(run(), run(failure()), [], id="a lost thumbnail"),
        pytest.param(run(), run(failure(apart=True)), [], id="an error that somebody else marked"),
        pytest.param(run(), run(), ["process 7"], id="something is left"),
    ],
)
def test_a_broken_promise_is_seen(pages: LoadResult, thumbs: LoadResult, left: list[str]) -> None:
    assert not reported(pages, thumbs, left)[0]


def test_a_unit_that_went_back_for_another_reason_than_its_gates_breaks_the_promise() -> None:
    backs = [("20 % errors", 0.4, {"status": {**STOPPED, "stoppedReason": "Aborted"}})]
    assert not reported(run(), run(), [], backs)[0]


def test_the_files_are_short_and_right_and_the_bad_versions_differ_in_one_word(tmp_path: Path) -> None:
    assert len(SPINOUT.read_text().splitlines()) < 60
    for file in (MONOLITH, SPINOUT):
        manifests, problems = load(file.read_text(), file.name, base_dir=str(file.parent))
        assert manifests
        assert not problems
    demo = SpinoutDemo(Stage(tmp_path, "127.0.0.1:1234"), Show())
    good, bad = demo._file(), demo._file(fail_rate="0.2")
    changed = [
        (before, after)
        for before, after in zip(good.read_text().splitlines(), bad.read_text().splitlines(), strict=True)
        if before != after
    ]
    assert len(changed) == 1
    assert "http://127.0.0.1:1234" in good.read_text()


def test_the_picture_says_phase_weight_and_why_it_went_back() -> None:
    spinout = {"status": {"state": "rolled_back", "shownWeight": 0, "stopped": "p95 latency: 600 ms", "new": {}}}
    assert "rolled_back, 0 % of the thumbnails" in spinout_line(spinout)
    paper = io.StringIO()
    Console(file=paper, width=120).print(spinout_picture(spinout))
    assert "p95 latency: 600 ms" in paper.getvalue()


def test_a_step_that_breaks_is_marked_and_its_cause_goes_on(tmp_path: Path) -> None:
    play: Play = SpinoutDemo(Stage(tmp_path, "127.0.0.1:1"), Show())

    def broken() -> str:
        raise BrokenPromise("it did not happen")

    with pytest.raises(BrokenPromise, match="did not happen"):
        play.step("something", broken)
    assert play.show._steps[-1][1] == "broken"
