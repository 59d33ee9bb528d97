"""What a remote call says, and what its answer means. Pure.

An answer that proves that nothing was carried out lets the same call run locally: 421 from Envoy (the key is the
parent's, whatever we believed), Envoy's words for "nothing was sent", and a unit that refused before it began.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from spinyard_sdk import tracing
from spinyard_sdk.exchange import Answer, Call, Lost, NotSent, OutOfTime, TooLarge
from spinyard_sdk.failures import DeadlineExceeded, RemoteError
from spinyard_sdk.flags import Flag, address_of
from spinyard_sdk.functions import RAISED, Codec, Function
from spinyard_sdk.wire import (
    BOUNDARY_HEADER,
    KEY_HEADER,
    PARENT,
    PROBLEMS,
    SHADOW_HEADER,
    SIDE_HEADER,
    TIMEOUT_HEADER,
    Side,
)

TOLD: Final = "told"
"""counted under this when Envoy says that the key is the parent's"""
# Envoy's own words (the proxy's local replies), and whether they hold although Envoy may have tried more than once.
_ENVOY_SENT_NOTHING: Final = {
    "no_route": True,
    "no_instance": False,
    "overloaded": False,
    "instance_unreachable": False,
}
# The unit's own, before it began.
_UNIT_DID_NOTHING: Final = frozenset(
    {"unknown_function", "invalid_arguments", "busy", "too_large", "unsupported_media_type"}
)


@dataclass(frozen=True, slots=True)
class Returned:
    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    error: Exception


@dataclass(frozen=True, slots=True)
class Local:
    """Nothing was carried out. `why`: a stable code, for the counts."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """`may_repeat`: an idempotent function may run again, here."""

    error: RemoteError
    may_repeat: bool = False


Outcome = Returned | Raised | Local | Failed


def make_call(
    function: Function,
    flag: Flag,
    body: bytes,
    key: str,
    seconds: float,
    *,
    side: Side | None = None,
    shadow: bool = False,
) -> Call:
    """`side`: what the first hop decided; without it the key decides, and Envoy has the last word. Only an idempotent
    call has an Idempotency-Key: what has one may be sent twice by Envoy."""
    headers = {
        "host": flag.host,
        "content-type": "application/json",
        "accept": "application/json, application/problem+json",
        TIMEOUT_HEADER: str(max(1, int(seconds * 1e3))),
    }
    if key:
        headers[KEY_HEADER] = key
    if side:
        headers[SIDE_HEADER] = side
    if shadow:
        headers[SHADOW_HEADER] = function.boundary
    if function.idempotent:
        headers["idempotency-key"] = uuid.uuid4().hex
    tracing.inject(headers)
    return Call(address_of(flag.gateway), f"/{function.boundary}/{function.name}", headers, body)


def read_failure(function: Function, error: Exception) -> Outcome:
    """Of an exchange without an answer."""
    if isinstance(error, NotSent):
        return Local("unreachable")
    if isinstance(error, OutOfTime):
        return Failed(_late(function, "did not answer in time"))
    code = "too_large" if isinstance(error, TooLarge) else "connection_lost"
    assert isinstance(error, Lost)
    said = f"lost the connection after the request was sent: {error}"
    return Failed(_error(function, said, code), may_repeat=True)


def read_answer(function: Function, codec: Codec, answer: Answer) -> Outcome:
    if answer.status == 421 and answer.headers.get(SIDE_HEADER) == PARENT:
        return Local(TOLD)
    if answer.status == 200:
        return _result(function, codec, answer)
    problem = _problem(answer)
    kind = str(problem.get("type", ""))
    if kind.startswith(RAISED) and (raised := codec.decode_exception(problem)) is not None:
        return Raised(raised)
    code = kind.removeprefix(PROBLEMS) if kind.startswith(PROBLEMS) else ""
    return _from_unit(function, answer, code) if BOUNDARY_HEADER in answer.headers else _other(function, answer, code)


def _result(function: Function, codec: Codec, answer: Answer) -> Outcome:
    try:
        return Returned(codec.decode_result(answer.body))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        said = f"answered what it does not return: {error}"
        return Failed(_error(function, said, "bad_answer"), may_repeat=True)


def _from_unit(function: Function, answer: Answer, code: str) -> Outcome:
    if code in _UNIT_DID_NOTHING:
        return Local(code)
    if code == "deadline_exceeded":
        return Failed(_late(function, "did not end in time"))
    said = "failed" if code == "internal" else f"answered {answer.status}"
    return Failed(_error(function, said, code or f"http_{answer.status}"))


def _other(function: Function, answer: Answer, code: str) -> Outcome:
    """Envoy, or a unit in another language."""
    # With an Idempotency-Key it may have tried before, and those words are of its last try only.
    if _ENVOY_SENT_NOTHING.get(code, False) or (code in _ENVOY_SENT_NOTHING and not function.idempotent):
        return Local(code)
    if code == "timeout":
        return Failed(_late(function, "did not answer in time"))
    lost = code == "connection_lost" or code in _ENVOY_SENT_NOTHING
    if lost:
        return Failed(_error(function, "lost its connection", "connection_lost"), may_repeat=True)
    return Failed(_error(function, f"answered {answer.status}", f"http_{answer.status}"))


def _problem(answer: Answer) -> Mapping[str, Any]:
    if not answer.headers.get("content-type", "").startswith("application/problem+json"):
        return {}
    try:
        found = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _words(function: Function, said: str) -> str:
    return f"the unit of {function.boundary} {said}, in {function.name}"


def _error(function: Function, said: str, code: str) -> RemoteError:
    return RemoteError(_words(function, said), code=code, boundary=function.boundary, function=function.name)


def _late(function: Function, said: str) -> DeadlineExceeded:
    return DeadlineExceeded(_words(function, said), boundary=function.boundary, function=function.name)
