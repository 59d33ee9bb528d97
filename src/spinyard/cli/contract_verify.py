"""Whether a running unit keeps its contract: where it may be, how long it may take, and what the answers come to."""

from __future__ import annotations

import importlib.util
import ipaddress
import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from spinyard.cli.contract_source import run_child
from spinyard.cli.exits import Exit, Usage
from spinyard.errors import SystemFailure, Unreachable

Json = dict[str, Any]
Verdict = Literal["pass", "fail", "inconclusive", "error"]

EXIT_OF: dict[Verdict, Exit] = {
    "pass": Exit.OK,
    "fail": Exit.FAILED,
    "inconclusive": Exit.INCONCLUSIVE,
    "error": Exit.ERROR,
}
START_SECONDS = 30.0
"""for the child to import, and for its last request to end"""
SAMPLES_MAX = 50
CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Asking:
    url: str
    seconds: float
    request_seconds: float
    requests_max: int
    seed: int
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    only_safe: bool


@dataclass(frozen=True, slots=True)
class Verification:
    verdict: Verdict
    why: str
    requests: int
    operations: tuple[Json, ...]
    samples: tuple[Json, ...]

    def as_data(self, url: str, digest: str) -> Json:
        return {
            "apiVersion": "spinyard.dev/v1",
            "kind": "ContractVerification",
            "url": url,
            "contractDigest": digest,
            "verdict": self.verdict,
            "why": self.why,
            "requests": self.requests,
            "operations": list(self.operations),
            "samples": list(self.samples),
        }


def need_schemathesis() -> None:
    if importlib.util.find_spec("schemathesis") is None:
        raise SystemFailure(
            "`contract verify` needs Schemathesis, which is not installed",
            code="extra_missing",
            next_step="pip install 'spinyard[contracts]'",
        )


def check_place(url: str, *, allow_remote: bool) -> None:
    """Generated requests write and delete: they go to this machine, or somebody says otherwise."""
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError as cause:
        raise Usage(f"{url} is no URL: {cause}") from cause
    if parts.scheme not in ("http", "https") or not host:
        raise Usage(f"{url} is no http URL", next_step="give the address of the unit, like http://127.0.0.1:8080")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as cause:
        raise Unreachable(f"{host} cannot be resolved: {cause}", next_step="check the name") from cause
    addresses = {str(one[4][0]) for one in found}
    if not allow_remote and not all(_is_loopback(address) for address in addresses):
        raise Usage(
            f"{host} is not this machine, and the requests write and delete what they find",
            code="remote_refused",
            next_step="verify a unit on 127.0.0.1, or say --allow-remote",
        )
    try:
        socket.create_connection((host, port), CONNECT_SECONDS).close()
    except OSError as cause:
        raise Unreachable(f"nothing answers at {url}: {cause}", next_step="start the unit first") from cause


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def verify(document: Mapping[str, Any], asking: Asking) -> Verification:
    task = {
        "document": document,
        "url": asking.url.rstrip("/"),
        "seconds": asking.seconds,
        "request_seconds": asking.request_seconds,
        "requests_max": asking.requests_max,
        "seed": asking.seed,
        "headers": dict(asking.headers),
        "parameters": dict(asking.parameters),
        "only_safe": asking.only_safe,
    }
    code, out, err = run_child(
        "spinyard.cli.contract_fuzz", [], json.dumps(task).encode(), asking.seconds + START_SECONDS
    )
    lines = [json.loads(line) for line in out.splitlines() if line.endswith(b"}")]
    tail = err.decode(errors="replace").strip().splitlines()[-1:]
    return conclude(lines, "was ended, being too slow" if code is None else f"ended with exit code {code}", tail)


def conclude(lines: Sequence[Json], ending: str, tail: Sequence[str] = ()) -> Verification:
    """A break that was seen is a fail, however the run ended. A pass needs every operation to have succeeded once: a
    unit that answers 404 to everything keeps many contracts."""
    samples = [{k: v for k, v in line.items() if k != "kind"} for line in lines if line["kind"] == "broken"]
    asked = [{k: v for k, v in line.items() if k != "kind"} for line in lines if line["kind"] == "asked"]
    skipped = [line["why"] for line in lines if line["kind"] == "skipped"]
    ended = next((line for line in lines if line["kind"] == "ended"), None)
    count = int(ended["requests"]) if ended else 0
    verdict, why = _judge(samples, asked, skipped, ended, ending, tail)
    return Verification(verdict, why, count, tuple(asked), tuple(samples[:SAMPLES_MAX]))


def _judge(
    samples: Sequence[Json],
    asked: Sequence[Json],
    skipped: Sequence[str],
    ended: Json | None,
    ending: str,
    tail: Sequence[str],
) -> tuple[Verdict, str]:
    if samples:
        broken = sorted({str(one["operation"]) for one in samples})
        return "fail", f"broken: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}"
    if ended is None:
        return "error", f"the process that asks {ending}{': ' if tail else ''}{''.join(tail)[:500]}"
    if skipped:
        return "inconclusive", f"not understood: {skipped[0]}"
    unasked = [one for one in asked if one["why"]]
    if unasked:
        return "inconclusive", f"{unasked[0]['operation']} could not be asked: {unasked[0]['why']}"
    if not asked:
        return "inconclusive", "the contract has no operation that may be asked"
    vain = [one for one in asked if not any(status[0] in "123" for status in one["statuses"])]
    if vain:
        counts = ", ".join(f"{count} x {status}" for status, count in sorted(vain[0]["statuses"].items()))
        return (
            "inconclusive",
            f"{vain[0]['operation']} never succeeded ({counts or 'not asked in time'}):"
            " give values that exist with --param NAME=VALUE, or more time",
        )
    return "pass", f"{sum(sum(one['statuses'].values()) for one in asked)} answers, all as the contract says"
