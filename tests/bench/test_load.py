"""The closed loop counts what was answered, and the replayed judge of N11 sees what was recorded."""

from __future__ import annotations

import subprocess
from pathlib import Path
from random import Random

from bench.closed_loop import run
from bench.home import ROOT, environment, first_200, free_port, stop
from bench.n13_judges import threshold
from bench.rows.n6 import NAIVE
from bench.rows.n11 import FLAGGER_FAILS_ABOVE, recorded


def test_every_answer_of_every_connection_is_counted_and_a_refusal_is_none_of_them(tmp_path: Path) -> None:
    port, members, asked = free_port(), 30, 33
    env = environment(tmp_path, PORT=str(port), STORE=str(tmp_path / "store.db"), MEMBERS=str(members))
    server = subprocess.Popen(NAIVE, cwd=ROOT, env=env)
    try:
        address = f"127.0.0.1:{port}"
        first_200(address, "/healthz", "localhost")
        answers = run(address, "/claims", {"host": address}, asked, processes=2, connections=4, env=env)
    finally:
        stop(server)
    assert len({body["member"] for body in answers.bodies}) == members
    assert len({body["name"] for body in answers.bodies}) == members == len(answers.milliseconds)
    assert [text[:4] for text in answers.refused] == ["409 "] * (asked - members)
    assert 0 < max(answers.milliseconds) / 1000 <= answers.seconds


def test_the_threshold_judge_goes_back_after_five_bad_minutes_and_lets_a_good_version_pass() -> None:
    bad = threshold(recorded([(5, 1), (6, 0), (4, 2)]), FLAGGER_FAILS_ABOVE, Random(1))
    assert bad.rolled_back and bad.seconds == 300.0
    assert threshold(recorded([(5, 0), (6, 0)]), FLAGGER_FAILS_ABOVE, Random(1)).advanced
