"""Starts that cannot be: the command says which code, whose fault and what to do, and leaves nothing running."""

from __future__ import annotations

import fcntl
import json
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.e2e.house import House, Json, _commands
from tests.e2e.objects import service, template

pytestmark = pytest.mark.timeout(120)


def refused(house: House, *words: str, **env: str) -> Json:
    low, high = house.ports
    more = words or ("--gateway", house.gateway, "--port-range", f"{low}-{high}")
    done = house.run("server", *more, "-o", "json", env=env, timeout=90)
    assert done.returncode not in (0, 2), done.stdout + done.stderr
    told: Json = json.loads(done.stdout)
    assert told["kind"] == "Error"
    assert told["nextStep"]
    assert "Traceback" not in done.stderr
    assert _commands(house.home) == [], "a failed start leaves nothing running"
    return told


def test_the_port_of_the_gateway_is_taken(empty_house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", empty_house.gateway_port))
        taken.listen()
        told = refused(empty_house)
    assert (told["code"], told["fault"]) == ("gateway_port_taken", "user")
    assert empty_house.gateway in told["message"]
    empty_house.start()


def test_the_port_of_the_api_is_taken(empty_house: House) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        told = refused(empty_house, "--gateway", empty_house.gateway, "--api", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (told["code"], told["fault"]) == ("api_port_taken", "user")


def test_the_envoy_binary_is_missing(empty_house: House, tmp_path: Path) -> None:
    (tmp_path / "envoy").mkdir()
    (tmp_path / "envoy" / "__init__.py").touch()
    python_path = f"{tmp_path}:{empty_house.environment()['PYTHONPATH']}"
    assert refused(empty_house, PYTHONPATH=python_path)["code"] == "envoy_missing"


def test_the_store_is_damaged(empty_house: House) -> None:
    (empty_house.home / "spinyard.db").write_bytes(b"this is not a database " * 1000)
    told = refused(empty_house)
    assert told["code"] == "store_corrupt"
    assert "backup" in told["nextStep"]
    doctor = empty_house.run("doctor")
    assert doctor.returncode != 0
    assert "store" in doctor.stdout


def test_the_store_is_newer_than_we_can_read_or_held_by_another_program(empty_house: House) -> None:
    """Both in one home: the second part finds it whole again."""
    house = empty_house
    house.start()
    house.cli("down", timeout=60)
    with sqlite3.connect(house.home / "spinyard.db") as raw:
        before = raw.execute("SELECT value FROM meta WHERE name = 'min_reader_version'").fetchone()[0]
        raw.execute("UPDATE meta SET value = '99' WHERE name = 'min_reader_version'")
    assert refused(house)["code"] == "store_too_new"
    with sqlite3.connect(house.home / "spinyard.db") as raw:
        raw.execute("UPDATE meta SET value = ? WHERE name = 'min_reader_version'", (before,))
    raw.close()
    with open(house.home / "spinyard.db.lock") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        assert refused(house)["code"] in ("store_locked", "server_already_running")
    house.start()


@pytest.mark.parametrize("home", ["/proc/spinyard", "/dev/null/spinyard", "a file"])
def test_the_home_cannot_be_written(empty_house: House, tmp_path: Path, home: str) -> None:
    if home == "a file":
        (tmp_path / "file").touch()
        home = str(tmp_path / "file")
    done = empty_house.run("server", "--home", home, "-o", "json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["code"]) == (4, "home_not_writable"), told


@pytest.mark.system
def test_the_disk_of_the_home_is_full(tmp_path: Path) -> None:
    """A file system of its own, and small: that needs root. Requests are refused with disk_full, instances go on, and
    when there is room again so does everything else."""
    house = House()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(house.home)], capture_output=True, check=False
    )
    if mounted.returncode:
        house.close()
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    try:
        house.start()
        house.apply(service("steady", template()))
        house.serve("steady", 1)
        balloon = house.home / "balloon"
        with balloon.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    continue

        def is_said() -> bool:
            done = house.run("apply", "-f", "-", "-o", "json", text=json.dumps(service("more", template())))
            return done.returncode == 4 and json.loads(done.stdout)["code"] == "disk_full"

        house.wait("the full disk is said", is_said, 60)
        assert house.request("steady.localhost")[0] == 200
        balloon.unlink()
        house.apply(service("more", template()))
        house.serve("more", 1)
        house.cli("down", "--delete", timeout=90)
        assert house.keyed() == {}
    finally:
        house.close()
        subprocess.run(["umount", "-l", str(house.home)], check=False)
        house.home.rmdir()
