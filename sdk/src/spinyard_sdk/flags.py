"""What the control plane says about boundaries: the unit's weight, and where Envoy is. Read over OFREP by one thread of
this process, from SPINYARD_FLAGS; without that variable there is no thread, and everything stays local.

The last word holds for as long as the control plane says nothing new. The thread starts with the first call, and again
with the first one after a fork.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from spinyard_sdk.wire import WEIGHT_TOTAL

VARIABLE: Final = "SPINYARD_FLAGS"
EVALUATE: Final = "/ofrep/v1/evaluate/flags"
ANSWER_BYTES_MAX: Final = 4 << 20
LINE_BYTES_MAX: Final = 64 * 1024
ASK_SECONDS: Final = 3.0
SILENT_SECONDS: Final = 30.0
"""the stream says something every 10 s; silent for that long, it is dead"""
POLL_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = (0.2, 5.0)
# Every flag that is not broken has a value for some key; which one does not matter here.
_ANY_KEY: Final = b'{"context":{"targetingKey":"spinyard-sdk"}}'
_RANDOM: Final = random.Random()


@dataclass(frozen=True, slots=True)
class Flag:
    """`weight`, `shadow` in parts of 10,000: of the keys that are the unit's, and that are answered by both and
    compared. `gateway`: host:port of Envoy; `host`: the name of the boundary there."""

    weight: int = 0
    shadow: int = 0
    gateway: str = ""
    host: str = ""

    @property
    def is_idle(self) -> bool:
        return not (self.weight or self.shadow)


class _Answer(msgspec.Struct, frozen=True):
    flags: list[dict[str, Any]]
    event_streams: list[dict[str, Any]] = msgspec.field(name="eventStreams", default_factory=list)


_DECODER: Final = msgspec.json.Decoder(_Answer)
_OBJECT: Final = msgspec.json.Decoder(dict[str, Any])

Changed = Callable[[Mapping[str, Flag]], None]


class Reader:
    """`changed` is called in the reader's thread, with all flags, when any has changed."""

    def __init__(self, address: str, changed: Changed) -> None:
        self._address = urlsplit(address.rstrip("/"))
        self._changed = changed
        self._etag = ""
        self._stream = ""
        self._stopping = threading.Event()
        self._known: Mapping[str, Flag] = {}
        self.heard = threading.Event()
        """once there was an answer"""
        self.thread = threading.Thread(target=self._run, name="spinyard-flags", daemon=True)

    def stop(self) -> None:
        self._stopping.set()

    def _run(self) -> None:
        pause = PAUSE_SECONDS[0]
        while not self._stopping.is_set():
            try:
                stream = self._ask()
                pause = PAUSE_SECONDS[0]
                followed = bool(stream) and self._follow(stream)
                self._stopping.wait(PAUSE_SECONDS[0] if followed else POLL_SECONDS)
            except (OSError, http.client.HTTPException, msgspec.DecodeError, ValueError):
                # Away, or not what it should be: what was said last holds. ValidationError is a DecodeError.
                self._stopping.wait(pause * _RANDOM.uniform(0.5, 1.0))
                pause = min(PAUSE_SECONDS[1], pause * 2)

    def _ask(self) -> str:
        """Where its changes are told, or empty."""
        headers = {"content-type": "application/json"}
        if self._etag:
            headers["if-none-match"] = self._etag
        with self._answer("POST", EVALUATE, _ANY_KEY, headers, ASK_SECONDS) as answer:
            body = answer.read(ANSWER_BYTES_MAX + 1)
            if answer.status == 304:
                self.heard.set()
                return self._stream
            if answer.status != 200 or len(body) > ANSWER_BYTES_MAX:
                raise ValueError(f"{answer.status} from the control plane")
            found = _DECODER.decode(body)
            self._take(found)
            self._etag = answer.headers.get("etag", "")
            self.heard.set()
        return self._stream

    def _take(self, found: _Answer) -> None:
        streams = (one.get("endpoint", {}).get("requestUri", "") for one in found.event_streams if "endpoint" in one)
        self._stream = next((uri for uri in streams if isinstance(uri, str) and uri.startswith("/")), "")
        flags = dict(one for one in map(_flag, found.flags) if one is not None)
        # A flag that cannot be read now is not a flag that is gone.
        broken = {str(one.get("key")) for one in found.flags if "errorCode" in one}
        flags |= {key: flag for key, flag in self._known.items() if key in broken}
        if flags != self._known:
            self._known = flags
            self._changed(flags)

    def _follow(self, stream: str) -> bool:
        """Until the stream ends; False when there is none to be had."""
        with self._answer("GET", stream, None, {"accept": "text/event-stream"}, SILENT_SECONDS) as answer:
            if answer.status != 200:
                return False
            # Between the answer and now it may have changed.
            self._ask()
            for data in _messages(answer):
                if self._stopping.is_set():
                    break
                if _OBJECT.decode(data).get("type") == "refetchEvaluation":
                    self._ask()
        return True

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], seconds: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _connection(self._address, seconds)
        try:
            connection.request(method, self._address.path + path, body, dict(headers))
            yield connection.getresponse()
        finally:
            connection.close()


def _messages(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """The data of each server-sent event. Raises ValueError for a line without end."""
    data: list[bytes] = []
    size = 0
    while line := answer.readline(LINE_BYTES_MAX):
        size += len(line)
        if not line.endswith(b"\n") or size > LINE_BYTES_MAX:
            raise ValueError("a message of the stream is too long")
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text[5:].removeprefix(b" "))
        elif not text:
            size = 0
            if data:
                yield b"\n".join(data)
                data = []


def _flag(one: Mapping[str, Any]) -> tuple[str, Flag] | None:
    key, about = one.get("key"), one.get("metadata")
    if not isinstance(key, str) or not isinstance(about, dict):
        return None
    weight, shadow = about.get("weight"), about.get("shadow", 0)
    if not (isinstance(weight, int) and 0 <= weight <= WEIGHT_TOTAL):
        return None
    if not (isinstance(shadow, int) and 0 <= shadow <= WEIGHT_TOTAL):
        shadow = 0
    gateway = str(about.get("gateway", ""))
    try:
        address_of(gateway)
    except ValueError:
        gateway = ""
    return key, Flag(weight, shadow, gateway, str(about.get("host", "")))


def address_of(gateway: str) -> tuple[str, int]:
    """`host:port`; an address that means "every one of this machine" is asked on loopback. Raises ValueError."""
    host, colon, port = gateway.removeprefix("http://").rpartition(":")
    host = host.strip("[]")
    if not colon or not port.isdecimal():
        raise ValueError(f"{gateway!r} is not HOST:PORT")
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "*": "127.0.0.1", "::": "::1"}.get(host, host), int(port)


def _connection(address: SplitResult, seconds: float) -> http.client.HTTPConnection:
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError(f"{VARIABLE} is {address.geturl()!r}, not http://HOST:PORT")
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    return kind(address.hostname, address.port, timeout=seconds)


def reader_from_environment(changed: Changed) -> Reader | None:
    """Not started yet."""
    address = os.environ.get(VARIABLE, "")
    return Reader(address, changed) if address else None
