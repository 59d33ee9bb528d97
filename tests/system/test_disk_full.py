"""A disk that is full under the home: said with a code, survived by what runs, and over when there is room again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.house import House
from tests.e2e.objects import service, template

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

SIZE = "48m"


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "spinyard-test", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def small_house() -> Iterator[House]:
    house = House()
    with small_disk(house.home):
        try:
            yield house
        finally:
            house.close()
    house.home.rmdir()


@contextlib.contextmanager
def full(directory: Path) -> Iterator[None]:
    """Not one byte is free inside; what made it full is removed at the end."""
    filler = directory / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(NoRoom):
                while True:
                    fill(file.fileno(), size)
    try:
        yield
    finally:
        filler.unlink()


class NoRoom(Exception):
    pass


def fill(file: int, size: int) -> None:
    try:
        os.write(file, b"\0" * size)
    except OSError as failed:
        assert failed.errno == errno.ENOSPC
        raise NoRoom from failed


def test_instances_serve_on_a_full_disk_and_work_goes_on_when_there_is_room(small_house: House) -> None:
    house = small_house
    house.start()
    house.apply(service("web", template(), replicas=2))
    house.serve("web", 2)
    pids = house.keyed()
    server = house.server_pid()
    another = yaml.safe_dump(service("more", template(), replicas=1))
    with full(house.home):
        refused = house.run("apply", "-f", "-", "-o", "json", text=another)
        error = json.loads(refused.stdout)
        assert (refused.returncode, error["code"], error["retryable"]) == (4, "disk_full", True), error
        assert "free some space" in error["nextStep"]
        with_up = house.run("up", "-f", "-", "-o", "json", "--timeout", "10s", text=another)
        assert json.loads(with_up.stdout.splitlines()[-1])["code"] == "disk_full", with_up.stdout + with_up.stderr
        for _ in range(20):
            assert house.request("web.localhost", "/ready")[0] == 200
        assert house.keyed() == pids, "the instances are those of before"
        assert house.server_pid() == server, "the server did not die of it"
        # An instance that dies now can be replaced only later, but the other one takes its requests.
        victim = next(pid for key, [pid] in pids.items() if key.endswith("/process"))
        os.kill(victim, 9)
        house.wait(
            "the other one takes all", lambda: [house.request("web.localhost", "/ready")[0] for _ in "abc"] == [200] * 3
        )
    house.serve("web", 2)
    assert house.run("apply", "-f", "-", text=another).returncode == 0
    house.serve("more", 1)
    for name in ("web", "more"):
        house.delete("Service", name)
    house.wait("nothing is left", lambda: not house.left())


def test_a_home_on_a_full_disk_is_refused_with_the_reason(small_house: House) -> None:
    house = small_house
    with full(house.home):
        refused = house.run("server", "--gateway", house.gateway, "-o", "json")
        assert refused.returncode == 4, refused.stdout + refused.stderr
        assert json.loads(refused.stdout)["code"] == "disk_full"
    house.start()  # with room, the same home is as good as new
    assert house.client.is_ready()
    assert house.left() == []


def test_the_small_disk_is_gone_afterwards() -> None:
    assert f"{tempfile.gettempdir()}/sy-e2e-" not in "".join(
        line for line in Path("/proc/mounts").read_text().splitlines(keepends=True) if line.startswith("spinyard-test ")
    )
