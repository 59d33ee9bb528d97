"""Parts of Spinyard are killed, stopped and started again; instances and their requests go on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from functools import partial

import pytest

from spinyard.errors import Conflict, SpinyardError
from spinyard.testing.load_process import LoadProcess
from tests.e2e.house import House, Json, free_port, is_alive, kill
from tests.e2e.objects import service, template
from tests.e2e.test_services import load, unhurt

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def pids(house: House) -> Iterator[list[int]]:
    """Two instances under a name, there for the whole module."""
    house.apply(service("steady", template(), replicas=2))
    house.serve("steady", 2)
    yield house.instance_pids()


@pytest.fixture
def traffic(house: House, pids: list[int]) -> Iterator[LoadProcess]:
    running = load(house, "steady.localhost")
    try:
        house.wait("requests are answered", lambda: running.latest.get("ok"))
        yield running
    finally:
        running.kill()


def test_the_server_is_killed_and_no_request_fails(house: House, pids: list[int], traffic: LoadProcess) -> None:
    old = house.server_pid()
    kill(old)
    house.wait("it is back", lambda: house.server_pid() not in (0, old) and house.client.is_ready())
    house.cli("scale", "steady", "--replicas", "3")
    house.serve("steady", 3)
    house.cli("scale", "steady", "--replicas", "2")
    house.serve("steady", 2)
    unhurt(traffic.stop())
    assert set(pids) <= set(house.instance_pids()), "instances went on"


def test_the_server_stands_still_and_no_request_fails(house: House, traffic: LoadProcess) -> None:
    """SIGSTOP, as an overloaded machine or a debugger does it: what it holds may be stale when it goes on."""
    pid = house.server_pid()
    os.kill(pid, signal.SIGSTOP)
    sent = int(traffic.latest["ok"])  # type: ignore[call-overload]
    try:
        house.wait("requests are answered meanwhile", lambda: int(traffic.latest["ok"]) > sent + 60)  # type: ignore[call-overload]
    finally:
        os.kill(pid, signal.SIGCONT)
    house.wait("it answers again", lambda: house.client.is_ready())
    assert house.server_pid() == pid
    unhurt(traffic.stop())


def test_envoy_is_killed_and_is_back(house: House, pids: list[int]) -> None:
    before = house.envoy_pids()
    assert len(before) == 1
    began = time.monotonic()
    kill(before[0])
    house.wait("another one runs", lambda: house.envoy_pids() not in ([], before))
    house.wait("requests are answered", lambda: house.request("steady.localhost")[0] == 200)
    assert time.monotonic() - began < 5.0, "a second on an idle machine"
    assert set(house.instance_pids()) == set(pids)
    assert len(house.endpoints()) == 2


def test_envoy_comes_back_without_a_server(house: House, pids: list[int]) -> None:
    """It has nobody to ask then: it is back with its routes when the server is."""
    envoy, server = house.envoy_pids(), house.server_pid()
    kill(server)
    kill(envoy[0])
    house.wait("requests are answered", lambda: house.request("steady.localhost")[0] == 200)
    assert set(house.instance_pids()) == set(pids)


def test_the_keeper_is_killed_and_another_adopts_everything(
    house: House, pids: list[int], traffic: LoadProcess
) -> None:
    old, server, envoy = house.keeper_pid(), house.server_pid(), house.envoy_pids()
    kill(old)
    house.cli("scale", "steady", "--replicas", "3")
    house.serve("steady", 3)
    assert house.keeper_pid() not in (0, old)
    house.cli("scale", "steady", "--replicas", "2")
    house.serve("steady", 2)
    assert (house.server_pid(), house.envoy_pids()) == (server, envoy)
    assert set(house.instance_pids()) == set(pids)
    unhurt(traffic.stop())
    new_server = house.server_pid()
    kill(new_server)
    house.wait("the new keeper restarts the server", lambda: house.server_pid() not in (0, new_server))


def test_an_instance_that_dies_while_nobody_looks_is_replaced(house: House, pids: list[int]) -> None:
    kill(house.keeper_pid())
    kill(pids[0])
    house.wait("two serve", lambda: house.states("steady") == ["serving"] * 2 and pids[0] not in house.instance_pids())
    house.wait("two processes", lambda: len(house.instance_pids()) == 2)
    assert pids[1] in house.instance_pids()


def test_a_second_server_on_the_home_is_refused(house: House, pids: list[int]) -> None:
    done = house.run("server", "--gateway", f"127.0.0.1:{free_port()}")
    assert done.returncode == 8, done.stderr
    assert "already runs" in done.stderr
    assert str(house.server_pid()) in done.stderr


def test_down_leaves_instances_running_and_the_next_start_adopts_them(house: House, pids: list[int]) -> None:
    before = sorted(house.instance_pids())
    uids = sorted(spin["metadata"]["uid"] for spin in house.spins("steady"))
    keeper, server, envoy = house.keeper_pid(), house.server_pid(), house.envoy_pids()
    said = house.cli("down", timeout=60)
    assert "2 instances left running" in said
    assert not any(is_alive(pid) for pid in (keeper, server, *envoy))
    assert sorted(house.instance_pids()) == before
    house.start()
    house.wait("requests are answered", lambda: house.request("steady.localhost")[0] == 200)
    house.serve("steady", 2)
    assert sorted(house.instance_pids()) == before
    assert sorted(spin["metadata"]["uid"] for spin in house.spins("steady")) == uids


def test_a_write_that_was_acknowledged_is_there_after_a_kill(house: House) -> None:
    for number in range(3):
        name = f"written-{number}"
        house.client.apply([service(name, template(), replicas=0)], key=name)
        old = house.server_pid()
        kill(old)
        house.wait("the server is back", partial(is_another_ready, house, old))
        assert house.get("Service", name)["metadata"]["name"] == name
        again: Json = house.client.apply([service(name, template(), replicas=0)], key=name)
        assert again["results"][0]["object"]["metadata"]["uid"] == house.get("Service", name)["metadata"]["uid"]
        house.client.delete("Service", "default", name)


def test_after_a_reboot_everything_is_found_gone_and_started_again(house: House, pids: list[int]) -> None:
    """As far as one can without one: every process of the home is killed, and the records are of another boot."""
    before = {spin["metadata"]["uid"] for spin in house.spins("steady")}
    shared = {path.name for path in (house.home / "data").iterdir()}
    house.kill_everything()
    for identity in (house.home / "run" / "instances").glob("*/identity.json"):
        found = json.loads(identity.read_bytes())
        identity.write_text(json.dumps({**found, "boot_id": "00000000-0000-0000-0000-000000000000"}))
    house.start()
    house.wait("all are new", lambda: not before & {spin["metadata"]["uid"] for spin in house.spins("steady")})
    house.serve("steady", 2)
    assert not set(pids) & set(house.instance_pids())
    assert house.request("steady.localhost")[0] == 200
    for uid in before:
        record = next(one for one in house.spins("steady", finished="true") if one["metadata"]["uid"] == uid)
        assert record["status"]["outcome"] == "InstanceLost"
    assert {path.name for path in (house.home / "data").iterdir()} == shared


def test_down_with_delete_ends_all_of_it_and_nothing_is_left(house: House, pids: list[int]) -> None:
    house.cli("down", "--delete", timeout=90)
    assert house.keyed() == {}
    assert not list((house.home / "data").rglob("*"))
    assert not list((house.home / "run" / "instances").glob("*"))
    with pytest.raises(SpinyardError) as refused:
        house.client.info()
    assert not isinstance(refused.value, Conflict)


def is_another_ready(house: House, old: int) -> bool:
    return house.server_pid() not in (0, old) and house.client.is_ready()
