"""A home that 0.1.0 wrote, opened by this version. The instances that ran in it are gone, as after a reboot.

It holds: Service `web` (2 replicas, a route, a shared and a retained directory, a bootstrap step), Service
`by-reference` of Template `named`, Job `once` that has succeeded, and what a Service that was deleted leaves: its
record, and a retained directory. Made by scripts/make_fixture_home.py.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from tests.e2e.house import House, unpack

HOME = Path(__file__).resolve().parents[1] / "fixtures" / "home-0.1.0.tar.gz"


@pytest.fixture
def old_house(empty_house: House) -> House:
    with tarfile.open(HOME) as archive:
        unpack(archive, empty_house.home)
    empty_house.home.chmod(0o700)
    empty_house.start()
    return empty_house


def test_what_was_wished_is_there_again_and_what_is_gone_was_cleaned_up(old_house: House) -> None:
    house = old_house
    new = house.serve("web", 2)
    house.serve("by-reference", 1, state="ready")
    records = house.spins("web", finished="true")
    lost = [spin for spin in records if spin["status"]["outcome"] == "InstanceLost"]
    assert len(lost) == 2, [spin["status"] for spin in records]
    assert not {spin["metadata"]["uid"] for spin in lost} & {spin["metadata"]["uid"] for spin in new}
    assert house.get("Job", "once")["status"]["state"] == "succeeded"
    assert house.request("web.localhost", "/")[0] == 200

    retained = [row for row in house.client.resources()["items"] if row["retained"]]
    data = {path.name for path in (house.home / "data").iterdir()}
    for name in ("web", "by-reference"):
        house.delete("Service", name)
    assert house.client.orphans()["items"] == []
    assert data, "the retained directory of the Service that 0.1.0 deleted is still there"
    assert all(row["key"].endswith("/dir/kept") for row in retained)
