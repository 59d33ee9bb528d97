"""What bootstrap says of a machine, when it believes a .venv, and that nothing it installs is unpinned."""

import ast
import json
import re
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
GOOD: dict[str, Any] = {
    "version": [3, 12, 1],
    "implementation": "cpython",
    "bits64": True,
    "path": "/usr/bin/python3",
    "sqlite": [3, 40, 1],
    "missing": [],
    "free_threaded": False,
}


# --- the machine


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
@pytest.mark.parametrize("libc", ["glibc 2.31", "glibc 2.36", "glibc 2.100", "glibc 3.0"])
def test_a_supported_system_has_no_problem(bootstrap: ModuleType, machine: str, libc: str) -> None:
    assert bootstrap.platform_problem("Linux", machine, libc) is None


@pytest.mark.parametrize(
    ("system", "machine", "libc", "sentence"),
    [
        pytest.param("Darwin", "arm64", "", "Spinyard runs on Linux only, and this is Darwin.", id="not linux"),
        pytest.param(
            "Linux",
            "riscv64",
            "glibc 2.39",
            "Spinyard runs on x86_64 and aarch64, and this machine is riscv64.",
            id="other architecture",
        ),
        pytest.param(
            "Linux",
            "x86_64",
            "",
            "Spinyard needs a Linux with glibc >= 2.31, and this one has another C library.",
            id="musl",
        ),
        pytest.param(
            "Linux", "x86_64", "glibc 2.28", "Spinyard needs glibc >= 2.31, and this system has 2.28.", id="old glibc"
        ),
    ],
)
def test_an_unsupported_system_gets_one_sentence(
    bootstrap: ModuleType, system: str, machine: str, libc: str, sentence: str
) -> None:
    assert bootstrap.platform_problem(system, machine, libc) == sentence


@pytest.mark.parametrize(
    ("difference", "sentence"),
    [
        pytest.param(
            {"version": [3, 10, 13]},
            "Spinyard needs Python >= 3.11, and /usr/bin/python3 is Python 3.10.13.",
            id="old python",
        ),
        pytest.param(
            {"version": [3, 15, 0]},
            "Spinyard is locked for Python 3.11 to 3.14, and /usr/bin/python3 is Python 3.15.0.",
            id="python newer than the lock",
        ),
        pytest.param(
            {"implementation": "pypy"}, "Spinyard needs CPython, and /usr/bin/python3 is pypy.", id="not cpython"
        ),
        pytest.param(
            {"bits64": False}, "Spinyard needs a 64-bit Python, and /usr/bin/python3 is a 32-bit one.", id="32 bits"
        ),
        pytest.param(
            {"free_threaded": True},
            "Spinyard needs a Python with the GIL, and /usr/bin/python3 is a free-threaded build.",
            id="no gil",
        ),
        pytest.param(
            {"sqlite": [3, 34, 1]},
            "Spinyard needs SQLite >= 3.35, and /usr/bin/python3 brings 3.34.1.",
            id="old sqlite",
        ),
        pytest.param(
            {"sqlite": None},
            "Spinyard needs Python's sqlite3 module, and /usr/bin/python3 was built without it.",
            id="no sqlite",
        ),
        pytest.param(
            {"missing": ["ssl", "venv"]},
            "Spinyard needs Python's module ssl, and /usr/bin/python3 was built without it.",
            id="no ssl",
        ),
    ],
)
def test_an_unsuitable_python_gets_one_sentence(
    bootstrap: ModuleType, difference: dict[str, Any], sentence: str
) -> None:
    assert bootstrap.python_problem({**GOOD, **difference}) == sentence


def test_a_suitable_python_further_down_the_path_is_taken(bootstrap: ModuleType) -> None:
    found = [{**GOOD, "version": [3, 9, 2]}, {**GOOD, "sqlite": None}, {**GOOD, "path": "/opt/python3.12"}]
    assert bootstrap.choose_python(found) == "/opt/python3.12"


def test_with_no_suitable_python_the_first_one_is_spoken_of(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.CannotRun, match=r"is Python 3\.9\.2"):
        bootstrap.choose_python([{**GOOD, "version": [3, 9, 2]}, {**GOOD, "sqlite": None}])


def test_with_no_python_at_all_there_is_a_sentence_too(bootstrap: ModuleType) -> None:
    with pytest.raises(bootstrap.CannotRun, match="none was found"):
        bootstrap.choose_python([])


def test_the_probe_tells_the_truth_of_this_python(bootstrap: ModuleType) -> None:
    facts = bootstrap.probe(sys.executable)
    assert facts["version"] == list(sys.version_info[:3])
    assert bootstrap.python_problem(facts) is None


def test_a_program_that_is_no_python_is_left_out(bootstrap: ModuleType) -> None:
    assert bootstrap.probe("/bin/false") is None


def test_a_command_that_cannot_run_here_exits_2_with_one_line(tmp_path: Path) -> None:
    code = (
        "import runpy, platform, sys; platform.machine = lambda: 'mips';"
        f"sys.argv = ['bootstrap.py', 'run']; runpy.run_path({str(copy_of_checkout(tmp_path))!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr == "spinyard: Spinyard runs on x86_64 and aarch64, and this machine is mips.\n"
    assert not (tmp_path / ".venv").exists()


def test_it_parses_on_an_old_python() -> None:
    ast.parse((ROOT / "scripts" / "bootstrap.py").read_text(), feature_version=(3, 6))


# --- the stamp


def copy_of_checkout(root: Path) -> Path:
    """A checkout with a lock and two packages, and nothing to install; the path of its bootstrap."""
    for name in ("requirements", "sdk", "scripts"):
        (root / name).mkdir()
    (root / "requirements" / "run.txt").write_text("a==1 --hash=sha256:00\n")
    (root / "requirements" / "dev.txt").write_text("a==1 --hash=sha256:00\nb==1 --hash=sha256:00\n")
    (root / "pyproject.toml").write_text('[project]\nname = "spinyard"\nversion = "0.1.0"\n\n[tool.ruff]\n')
    (root / "sdk" / "pyproject.toml").write_text('[project]\nname = "spinyard-sdk"\n')
    script = root / "scripts" / "bootstrap.py"
    script.write_text((ROOT / "scripts" / "bootstrap.py").read_text())
    return script


@pytest.fixture
def checkout(bootstrap: ModuleType, tmp_path: Path) -> Path:
    """A checkout with a finished `run` environment: this Python and one installed distribution."""
    copy_of_checkout(tmp_path)
    site = tmp_path / ".venv" / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    (site / "a-1.dist-info").mkdir(parents=True)
    (tmp_path / ".venv" / "bin").mkdir()
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    bootstrap.write_stamp(str(tmp_path), "run")
    return tmp_path


def test_a_finished_environment_is_believed(bootstrap: ModuleType, checkout: Path) -> None:
    assert bootstrap.is_ready(str(checkout), "run")


def test_a_finished_environment_is_left_alone_and_needs_nothing_from_path(checkout: Path) -> None:
    command = [sys.executable, str(checkout / "scripts" / "bootstrap.py"), "run"]
    done = subprocess.run(command, env={"PATH": ""}, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (checkout / ".bootstrap.lock").exists()


def test_the_smaller_set_does_not_count_as_the_larger_one(bootstrap: ModuleType, checkout: Path) -> None:
    assert not bootstrap.is_ready(str(checkout), "dev")
    assert bootstrap.is_whole(str(checkout), bootstrap.read_stamp(str(checkout)))


def test_the_larger_set_counts_as_the_smaller_one(bootstrap: ModuleType, checkout: Path) -> None:
    bootstrap.write_stamp(str(checkout), "dev")
    assert bootstrap.is_ready(str(checkout), "run")


def test_another_lock_makes_it_stale(bootstrap: ModuleType, checkout: Path) -> None:
    (checkout / "requirements" / "run.txt").write_text("a==2 --hash=sha256:00\n")
    assert not bootstrap.is_ready(str(checkout), "run")
    assert not bootstrap.is_whole(str(checkout), bootstrap.read_stamp(str(checkout)))


def test_another_entry_point_asks_for_our_packages_only(bootstrap: ModuleType, checkout: Path) -> None:
    text = (checkout / "pyproject.toml").read_text().replace("0.1.0", "0.2.0")
    (checkout / "pyproject.toml").write_text(text)
    assert not bootstrap.is_ready(str(checkout), "run")
    assert bootstrap.is_whole(str(checkout), bootstrap.read_stamp(str(checkout)))


def test_a_linter_setting_changes_nothing(bootstrap: ModuleType, checkout: Path) -> None:
    with (checkout / "pyproject.toml").open("a") as file:
        file.write("line-length = 120\n")
    assert bootstrap.is_ready(str(checkout), "run")


def test_a_package_that_went_away_is_noticed(bootstrap: ModuleType, checkout: Path) -> None:
    next((checkout / ".venv").rglob("a-1.dist-info")).rmdir()
    assert not bootstrap.is_ready(str(checkout), "run")


def test_a_python_that_went_away_is_noticed(bootstrap: ModuleType, checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert not bootstrap.is_ready(str(checkout), "run")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', '{"set": "all"}'], ids=repr)
def test_a_stamp_that_cannot_be_read_is_no_stamp(bootstrap: ModuleType, checkout: Path, text: str) -> None:
    (checkout / ".venv" / "spinyard-stamp.json").write_text(text)
    assert bootstrap.read_stamp(str(checkout)) is None
    assert not bootstrap.is_ready(str(checkout), "run")


def test_a_moved_checkout_is_noticed(bootstrap: ModuleType, checkout: Path) -> None:
    stamp = checkout / ".venv" / "spinyard-stamp.json"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "root": "/somewhere/else"}))
    assert not bootstrap.is_ready(str(checkout), "run")


def test_a_failed_installation_leaves_no_stamp(bootstrap: ModuleType, checkout: Path) -> None:
    bootstrap.write_stamp(str(checkout), "run")
    with pytest.raises(bootstrap.InstallFailed, match="git checkout -- tools"):
        bootstrap.make(str(checkout), "dev", sys.executable)  # this checkout has no pip wheel
    assert bootstrap.read_stamp(str(checkout)) is None


def test_a_changed_pip_wheel_is_not_run(bootstrap: ModuleType, checkout: Path) -> None:
    (checkout / "tools").mkdir()
    (checkout / bootstrap.PIP_WHEEL).write_bytes(b"not the wheel that was committed")
    with pytest.raises(bootstrap.InstallFailed, match="not the file that was committed"):
        bootstrap.check_pip_wheel(str(checkout))


def test_two_runs_take_turns(bootstrap: ModuleType, tmp_path: Path) -> None:
    second_is_in = threading.Event()

    def second() -> None:
        with bootstrap.only_one(str(tmp_path / "lock")):
            second_is_in.set()

    with bootstrap.only_one(str(tmp_path / "lock")):
        thread = threading.Thread(target=second)
        thread.start()
        assert not second_is_in.wait(0.2)
    assert second_is_in.wait(10)
    thread.join(10)


def test_the_users_mirror_and_certificates_stay_and_other_targets_go(bootstrap: ModuleType) -> None:
    given = {"PIP_INDEX_URL": "u", "PIP_CERT": "c", "PIP_TARGET": "/x", "PYTHONPATH": "/y", "PIP_USER": "1"}
    assert bootstrap.clean_environment(given) == {"PIP_INDEX_URL": "u", "PIP_CERT": "c", "PIP_USER": "0"}


# --- what is committed


def test_the_committed_pip_wheel_is_the_one_bootstrap_expects(bootstrap: ModuleType) -> None:
    bootstrap.check_pip_wheel(str(ROOT))
    assert [path.name for path in (ROOT / "tools").glob("pip-*.whl")] == [Path(bootstrap.PIP_WHEEL).name]


def pins(name: str) -> dict[str, str]:
    """Each requirement line of a lock, by its head, with everything that belongs to it."""
    entries = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ").splitlines()
    return {entry.split(" --hash")[0].strip(): entry for entry in entries if entry and not entry.startswith("#")}


@pytest.mark.parametrize("name", ["run", "dev"])
def test_every_locked_package_has_a_version_and_a_hash_and_no_address(name: str) -> None:
    for head, entry in pins(name).items():
        assert re.match(r"^[a-z0-9._-]+==\S+( ; .+)?$", head), head
        assert "--hash=sha256:" in entry, head
        assert "://" not in entry, head


def test_the_larger_set_contains_the_smaller_one() -> None:
    assert pins("run").keys() <= pins("dev").keys()
