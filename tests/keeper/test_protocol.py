"""What a client sends wrongly, or a full disk, is answered; the keeper goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.keeper.driver import Keeper, is_alive, read_line, until

KEY = "protocol/process"


def raw(keeper: Keeper, data: bytes) -> dict[str, Any]:
    with keeper.connect() as peer:
        peer.sendall(data)
        return read_line(peer)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"\xff\xfe\x00",
        b"[1, 2]",
        b"null",
        b"[" * 100_000,
        b'{"op": "start"}',
        b'{"op": "start", "key": "a/process"}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": []}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": "ls"}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["a\\u0000b"]}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["ls"], "log_name": "../../etc"}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["ls"], "log_name": "a", "ports": ["x"]}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["ls"], "log_name": "a", "env": [{"name": "A=B"}]}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["ls"], "log_name": "a", "memory_bytes": -1}',
        b'{"op": "start", "epoch": 1, "key": "a/process", "argv": ["ls"], "log_name": "a", "grace_seconds": "x"}',
        b'{"op": "observe", "key": "../x"}',
        b'{"op": "observe", "key": 7}',
        b'{"op": "observe", "key": {"a": []}}',
        b'{"op": "remove", "key": "a/process", "epoch": true}',
        b'{"op": "mkdir", "key": "a/../../x", "epoch": 1}',
        b'{"op": "rmdir", "key": "/", "epoch": 1}',
        b'{"op": "supervise", "name": "a/b", "argv": ["ls"]}',
    ],
    ids=lambda line: line[:60].decode(errors="replace") or "empty",
)
def test_nonsense_is_answered_as_such(keeper: Keeper, line: bytes) -> None:
    answer = raw(keeper, line + b"\n")
    assert answer["ok"] is False
    assert answer["error"]["error_class"] in ("InvalidRequest", "UnknownOperation")
    assert answer["error"]["message"]
    assert keeper.ask("list")["instances"] == []


def test_unknown_operations_and_fields_are_no_harm(keeper: Keeper) -> None:
    assert raw(keeper, b'{"v": 99, "id": "x", "op": "teleport"}\n') == {
        "id": "x",
        "ok": False,
        "error": {
            "error_class": "UnknownOperation",
            "message": "this keeper (protocol 1) does not know that op",
            "retryable": False,
        },
    }
    assert keeper.ask("hello", colour="blue")["ok"]


def test_a_huge_request_is_refused(keeper: Keeper) -> None:
    with keeper.connect() as peer:
        try:
            for _ in range(40):
                peer.sendall(b"x" * 65536)
            answer = read_line(peer)
        except (ConnectionError, BrokenPipeError):
            answer = None  # it hung up before we had said all
    assert answer is None or answer["error"]["error_class"] == "InvalidRequest"
    assert keeper.ask("hello")["ok"]


def test_a_request_in_pieces_and_several_in_one(keeper: Keeper) -> None:
    with keeper.connect() as peer, peer.makefile("rb") as lines:
        for piece in (b'{"id": 1, "op"', b': "hello"}\n{"id": 2, "op": "list"}\n{"id": 3,', b' "op": "dirs"}\n'):
            peer.sendall(piece)
        assert [json.loads(lines.readline())["id"] for _ in range(3)] == [1, 2, 3]


def test_too_many_connections_are_turned_away_and_the_rest_is_served(keeper: Keeper) -> None:
    peers = [keeper.connect() for _ in range(192)]
    until(lambda: _is_turned_away(keeper))
    peers[0].sendall(b'{"id": 1, "op": "hello"}\n')
    assert read_line(peers[0])["ok"]
    for peer in peers:
        peer.close()
    assert keeper.ask("hello")["ok"]


def _is_turned_away(keeper: Keeper) -> bool:
    with keeper.connect() as peer:
        peer.sendall(b'{"id": 1, "op": "hello"}\n')
        return bool(read_line(peer).get("error", {}).get("error_class") == "TooMany")


def test_a_client_that_goes_away_in_the_middle_is_no_harm(keeper: Keeper) -> None:
    with keeper.connect() as peer:
        peer.sendall(b'{"id": 1, "op": "li')
    with keeper.connect() as peer:
        peer.sendall(b'{"id": 1, "op": "list"}\n' * 100)
    assert keeper.ask("hello")["ok"]


def test_a_driver_that_was_replaced_is_refused_also_by_the_next_keeper(keeper: Keeper) -> None:
    assert keeper.ask("claim_epoch", epoch=5)["ok"]
    keeper.kill()
    keeper.start()
    assert keeper.ask("hello")["epoch"] == 5
    assert keeper.ask("claim_epoch", epoch=4)["error"]["error_class"] == "StaleEpoch"
    assert keeper.run(KEY, "true", epoch=4)["error"]["error_class"] == "StaleEpoch"
    for op in ("remove", "mkdir", "rmdir"):
        assert keeper.ask(op, key=KEY, epoch=4)["error"]["error_class"] == "StaleEpoch"
    for op in ("supervise", "unsupervise", "stop"):
        assert keeper.ask(op, name="x", argv=["true"], epoch=4)["error"]["error_class"] == "StaleEpoch"
    assert keeper.ask("list")["instances"] == []
    keeper.begin(KEY, "sleep", "300", epoch=6)
    assert keeper.ask("remove", key=KEY, epoch=5)["error"]["error_class"] == "StaleEpoch"
    assert keeper.observe(KEY) is not None


def test_the_socket_and_the_records_are_for_the_owner_only(keeper: Keeper) -> None:
    keeper.begin(KEY, "sh", "-c", "echo; exec sleep 300")
    until(keeper.log(KEY).exists)
    run = keeper.home / "run"
    assert run.stat().st_mode & 0o077 == 0
    assert (run / "keeper.sock").stat().st_mode & 0o777 == 0o600
    for path in [*run.rglob("*.json"), keeper.log(KEY)]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_value_of_the_environment_is_ever_written(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("canary-in-a-file")
    env = [{"name": "A", "value": "canary-as-a-value"}, {"name": "B", "secret_file": str(tmp_path / "secret")}]
    pid = keeper.begin(KEY, "sleep", "300", env=env)["pid"]
    assert b"canary-in-a-file" in Path(f"/proc/{pid}/environ").read_bytes()
    keeper.run("protocol/broken", "true", env=[*env, {"name": "C", "secret_file": "/nowhere"}])
    keeper.exited("protocol/broken")
    written = [path for path in keeper.home.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if b"canary" in path.read_bytes()] == []


def test_directories_do_not_lead_outside(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    path = Path(keeper.ask("mkdir", key="x/dir/a", epoch=1)["path"])
    assert path.is_relative_to(keeper.home / "data")
    (path / "link").symlink_to(tmp_path)
    (path / "file-link").symlink_to(tmp_path / "precious")
    locked = path / "locked"
    locked.mkdir()
    (locked / "content").write_text("x")
    locked.chmod(0)
    deep = path
    for _ in range(300):
        deep = deep / "d"
        os.mkdir(deep)
    (deep / "content").write_text("x")
    assert keeper.ask("rmdir", key="x/dir/a", epoch=1)["ok"]
    until(lambda: keeper.ask("dirs")["dirs"] == [])
    assert not path.exists()
    assert (tmp_path / "precious").read_text() == "keep me"


def test_a_link_in_the_place_of_a_directory_is_removed_itself(keeper: Keeper, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (keeper.home / "data" / "x~dir~a").symlink_to(tmp_path)
    assert keeper.ask("mkdir", key="x/dir/a", epoch=1)["error"]["error_class"] == "ProviderError"
    assert keeper.ask("rmdir", key="x/dir/a", epoch=1)["ok"]
    until(lambda: keeper.ask("dirs")["dirs"] == [])
    assert (tmp_path / "precious").read_text() == "keep me"


def test_it_is_small(keeper: Keeper) -> None:
    for number in range(5):
        keeper.begin(f"small/{number}", "sleep", "300")
    assert _resident_kb(keeper.pid, "Rss") < 20_000
    assert _resident_kb(keeper.shim_of("small/4"), "Pss") < 6_000


def _resident_kb(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(f"no {field} in smaps_rollup")


# -- a full disk ------------------------------------------------------------------------------------------


class KeeperOnSmallDisk(Keeper):
    """Its home is a file system of 256 kB that only it sees (own mount namespace); we reach it through /proc."""

    def start(self) -> None:
        script = 'mount -t tmpfs -o size=256k tmpfs "$1" && exec "$0" -m spinyard.keeper --home "$1"'
        self._mounted = str(self.home)
        self.process = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, self._mounted],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.home = Path(f"/proc/{self.process.pid}/root{self._mounted}")
        until(self._answers)

    def connect(self) -> socket.socket:
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(20)
        peer.connect(f"{self.home}/run/keeper.sock")
        return peer


def test_a_full_disk_is_said_and_survived(home: Path) -> None:
    keeper = KeeperOnSmallDisk(home)
    keeper.start()
    try:
        running = keeper.begin("protocol/other", "sleep", "300")
        chatty = keeper.script(KEY, "while :; do echo 0123456789012345678901234567890; done", log_bytes=10_000_000)
        until(lambda: os.statvfs(keeper.home).f_bavail == 0)
        refused = until(lambda: _refusal(keeper))
        assert (refused["error_class"], refused["retryable"]) == ("DiskFull", True)
        assert keeper.observe("protocol/new") is None
        assert keeper.ask("mkdir", key="x/dir/a", epoch=9)["error"]["error_class"] == "DiskFull"
        envoy = {"name": "envoy", "argv": ["sleep", "300"], "restart": True}
        assert keeper.ask("supervise", **envoy)["error"]["error_class"] == "DiskFull"
        assert keeper.ask("supervised")["supervised"] == []
        assert is_alive(chatty["pid"]), "the program is not stopped by its log"
        assert keeper.ask("hello")["ok"]
        os.kill(running["pid"], 15)
        assert keeper.exited("protocol/other")["exit_signal"] == 15, "an exit needs no room"
        keeper.remove(KEY, now=True)
        keeper.gone(KEY)
        keeper.log(KEY).unlink()
        assert keeper.run("protocol/new", "true")["ok"]
        assert keeper.exited("protocol/new")["exit_code"] == 0
    finally:
        keeper.close()


def _refusal(keeper: Keeper) -> dict[str, Any] | None:
    """tmpfs gives out pages of 4 kB: what is left of one may still take a small file."""
    answer = keeper.run("protocol/new", "true")
    if answer["ok"]:
        keeper.remove("protocol/new", now=True)
        keeper.gone("protocol/new")
        return None
    error: dict[str, Any] = answer["error"]
    return error
