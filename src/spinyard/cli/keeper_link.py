"""Questions to the keeper over its socket, one connection each: JSON lines, as `ports.keeper` describes."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from spinyard.errors import SpinyardError, SystemFailure, Unreachable
from spinyard.ports.keeper import PROTOCOL_VERSION

Json = dict[str, Any]

ANSWER_BYTES_MAX = 64 << 20
SOCKET_PATH_BYTES_MAX = 107
"""of sun_path on Linux, without its last zero byte"""


class KeeperLink:
    def __init__(self, path: Path, *, timeout_seconds: float = 10.0) -> None:
        self._path = path
        self._timeout_seconds = timeout_seconds

    def is_alive(self) -> bool:
        try:
            self.ask("hello")
        except Unreachable:
            return False
        return True

    def ask(self, op: str, **fields: Any) -> Json:
        """The fields of the answer. Raises Unreachable when no keeper listens, SystemFailure with its words when it
        refuses."""
        request = {"v": PROTOCOL_VERSION, "id": 1, "op": op, **fields}
        answer = self._exchange(json.dumps(request).encode() + b"\n")
        if answer.get("ok"):
            return answer
        error = answer.get("error") or {}
        raise SystemFailure(
            f"the keeper refused {op}: {error.get('message') or 'without a reason'}",
            code="keeper_refused",
            retryable=bool(error.get("retryable")),
            details={"errorClass": error.get("error_class", "")},
        )

    def change(self, op: str, **fields: Any) -> Json:
        """An operation that changes something: with the newest epoch that the keeper has seen, so a server that runs
        keeps its own."""
        return self.ask(op, epoch=int(self.ask("hello").get("epoch") or 0), **fields)

    def supervised(self) -> dict[str, Json]:
        answer = self.ask("supervised")
        entries = answer.get("supervised") or []
        return {str(entry["name"]): entry for entry in entries}

    def _exchange(self, line: bytes) -> Json:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(self._timeout_seconds)
                peer.connect(str(self._path))
                peer.sendall(line)
                answer = _line_from(peer)
        except OSError as cause:
            raise Unreachable(
                f"no keeper answers at {self._path} ({cause.strerror or cause})",
                code="keeper_unreachable",
                next_step="`spinyard server` or `spinyard up` starts one",
            ) from cause
        try:
            found = json.loads(answer)
        except ValueError as cause:
            raise SystemFailure("the keeper's answer is not JSON", code="keeper_refused") from cause
        return found if isinstance(found, dict) else {}


def is_server_kept(home: Path) -> bool:
    """Whether a keeper runs that starts the server of that home again when it dies."""
    try:
        return "server" in KeeperLink(home / "run" / "keeper.sock", timeout_seconds=2.0).supervised()
    except SpinyardError:
        return False


def _line_from(peer: socket.socket) -> bytes:
    received = bytearray()
    while b"\n" not in received and len(received) < ANSWER_BYTES_MAX:
        data = peer.recv(1 << 16)
        if not data:
            break
        received += data
    return bytes(received).split(b"\n", 1)[0]
