"""What a row tells is what it measured, and the report has its documented shape."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.measured import Figures, Measured, Scale, figures


def test_percentiles_are_values_that_were_measured() -> None:
    assert figures([3.0, 1.0, 2.0]) == Figures(p50=2.0, p99=3.0, max=3.0, n=3)
    assert figures([float(n) for n in range(1, 201)]) == Figures(p50=100.0, p99=198.0, max=200.0, n=200)


def test_nothing_measured_is_no_figure() -> None:
    with pytest.raises(AssertionError, match="measured nothing"):
        figures([])


def test_the_ratio_is_ours_by_the_peers() -> None:
    ours, peer = Figures(30.0, 31.0, 32.0, 5), Figures(20.0, 21.0, 22.0, 5)
    row = Measured("ms", ours, {"bare": peer, "silent": Figures(0, 0, 0, 5)}, 85.0, 47.0, True).as_json("N2")
    assert row["ratio"] == {"bare": 1.5}
    assert row["ours"] == {"p50": 30.0, "p99": 31.0, "max": 32.0, "n": 5}
    assert {"id", "unit", "ours", "peers", "ratio", "floor", "aim", "ok"} <= row.keys()


def _fake_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, ok: bool) -> int:
    row = Measured("ms", Figures(1, 1, 1, 1), {"peer": Figures(2, 2, 2, 1)}, 1, 1, ok).as_json("N2")
    monkeypatch.setattr(bench, "_run", lambda name, scale: {**row, "id": name})
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "n2,N4", "--quick", "--out", str(tmp_path / "latest.json")])
    return bench.main()


def test_a_missed_floor_fails_the_run_and_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _fake_row(monkeypatch, tmp_path, ok=True) == 0
    assert _fake_row(monkeypatch, tmp_path, ok=False) == 1
    report = json.loads((tmp_path / "latest.json").read_text())
    assert [row["id"] for row in report["rows"]] == ["N2", "N4"]
    assert report["rows"][0]["ok"] is False
    assert all(len(row["commit"].rstrip("+")) == 40 and row["at"] and row["definition"] for row in report["rows"])
    assert {"cores", "cpu", "kernel", "fsync_ms", "load_before", "load_after"} <= report["machine"].keys()


def test_a_row_that_stays_keeps_its_commit_and_is_no_figure_of_what_is_defined_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert _fake_row(monkeypatch, tmp_path, ok=True) == 0
    path = tmp_path / "latest.json"
    before = json.loads(path.read_text())
    before["rows"] = [
        {**row, "id": name, "commit": "older"} for row, name in zip(before["rows"], ("N7", "N8"), strict=True)
    ]
    before["rows"][0]["definition"] = bench.definition("N7")
    path.write_text(json.dumps(before))
    assert _fake_row(monkeypatch, tmp_path, ok=True) == 0
    rows = {row["id"]: row for row in json.loads(path.read_text())["rows"]}
    assert rows["N7"]["commit"] == rows["N8"]["commit"] == "older"
    assert rows["N7"]["ok"] is True and "outdated" not in rows["N7"]
    assert rows["N8"]["ok"] is None and "defined otherwise" in rows["N8"]["outdated"]


def test_a_row_that_breaks_is_a_row_that_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench.LIMIT_SECONDS, "N0", (30, 30, 30))
    row = bench._run("N0", Scale.QUICK)
    assert row["ok"] is False
    assert "No module named 'bench.rows.n0'" in row["notes"]["stderr"]


def test_an_unknown_row_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "N2,N99"])
    with pytest.raises(SystemExit):
        bench.main()
    assert "no such row: N99" in capsys.readouterr().err
