"""The rule of tests/conftest.py, tried in a pytest of its own: a skip is a failure, except in `system` tests."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def outcome(tmp_path: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(f"import pytest\n{body}\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = system: x\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), *arguments]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=50, check=False)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param("def test_a(): pytest.skip('no engine here')", id="skip in the test"),
        pytest.param("@pytest.mark.skip(reason='no engine here')\ndef test_a(): pass", id="skip mark"),
        pytest.param("@pytest.mark.skipif(True, reason='no engine here')\ndef test_a(): pass", id="skipif"),
        pytest.param("@pytest.mark.xfail(reason='no engine here')\ndef test_a(): assert False", id="xfail"),
        pytest.param("@pytest.mark.xfail(reason='no engine here')\ndef test_a(): pass", id="xpass"),
        pytest.param("pytest.skip('no engine here', allow_module_level=True)", id="whole module"),
        pytest.param("pytest.importorskip('no_engine_here', reason='no engine here')", id="importorskip"),
    ],
)
def test_a_skip_is_a_failure_that_gives_its_reason(tmp_path: Path, body: str) -> None:
    done = outcome(tmp_path, body)
    assert done.returncode in (1, 2), done.stdout
    assert "no engine here" in done.stdout


def test_a_system_test_may_skip(tmp_path: Path) -> None:
    done = outcome(tmp_path, "@pytest.mark.system\ndef test_a(): pytest.skip('not root')")
    assert done.returncode == 0
    assert "1 skipped" in done.stdout


def test_a_passing_test_passes(tmp_path: Path) -> None:
    assert outcome(tmp_path, "def test_a(): pass").returncode == 0


def test_the_rule_holds_under_xdist(tmp_path: Path) -> None:
    done = outcome(tmp_path, "def test_a(): pytest.skip('no engine here')\ndef test_b(): pass", "-n", "1")
    assert done.returncode == 1, done.stdout
    assert "no engine here" in done.stdout
