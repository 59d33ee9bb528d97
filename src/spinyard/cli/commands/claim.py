"""`claim`, `renew`, `release`, and `run`, which is all of them around one command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import explain_command, leaving, until_gone
from spinyard.cli.columns import why
from spinyard.cli.execute import SECONDS_MAX, execute
from spinyard.cli.exits import Exit, Failed, Usage, WaitedTooLong
from spinyard.cli.manifests import Named
from spinyard.cli.options import COMMON, SCOPE, Common, Scope, Timeout
from spinyard.cli.output import dig, print_data, state_of
from spinyard.cli.progress import poll
from spinyard.cli.verdict import Verdict, verdict
from spinyard.cli.words import counted, duration, seconds_of
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import NotFound

Json = dict[str, Any]

FILE_BYTES_MAX = 1 << 20

Env = Annotated[tuple[str, ...], Parameter(name="--env", help="KEY=VALUE, told to the instance in claim.json.")]
Files = Annotated[
    tuple[str, ...], Parameter(name="--file", help="NAME=PATH: the text of PATH, as NAME in SPINYARD_CLAIM_DIR.")
]
Wait = Annotated[
    str, Parameter(name="--wait", help="How long to wait for a place and until it is ready; 0: not at all.")
]
Pool = Annotated[str, Parameter(name="POOL", help="A pool: NAME or pool/NAME.")]
ClaimName = Annotated[str, Parameter(name="CLAIM", help="A claim: NAME or claim/NAME.")]


def claim(
    pool: Pool,
    *,
    name: Annotated[str, Parameter(name="--name", help="Name of the claim; else one is made.")] = "",
    env: Env = (),
    file: Files = (),
    ttl: Annotated[str, Parameter(name="--ttl", help="Released by itself after this time; else never.")] = "",
    wait: Wait = "30s",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Take an instance of a pool: warm at once, else one is started for it."""
    asked = _Asked(scope.namespace, _bare(pool), name, _body(env, file, ttl), seconds_of(wait))
    client = common.client()
    began = SystemClock().monotonic()
    with leaving("the claim goes on", f"spinyard release {asked.name} -n {asked.namespace}"):
        item = asked.make(client)
    took = SystemClock().monotonic() - began
    if common.is_data:
        print_data(item, common.output)
    elif common.output == "name":
        print(f"claim/{asked.name}")
    elif verdict(item) is Verdict.DONE:
        start = "cold start" if dig(item, "status", "cold") else "warm"
        print(f"claim/{asked.name} ready in {_short(took)} ({start})")
        print(dig(item, "status", "member", "url") or "it has no port")
    elif verdict(item) is Verdict.WAITING:
        place = dig(item, "status", "placeInQueue")
        bound = "bound, not ready yet" if dig(item, "status", "bound") else state_of(item)
        print(f"claim/{asked.name} {bound}" + (f", place {place} in the queue" if place else ""))
        print(dig(item, "status", "member", "url") or "no address yet")
    asked.raise_if_not(item, must_be_ready=asked.wait_seconds > 0)
    return Exit.OK


def renew(
    claim: ClaimName,
    *,
    ttl: Annotated[str, Parameter(name="--ttl", help="How long from now: 30s, 10m.")],
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Keep a claim longer: it ends so long from now."""
    item = common.client().renew(scope.namespace, _bare(claim), seconds_of(ttl), key=_key())
    if common.is_data:
        print_data(item, common.output)
    else:
        print(f"claim/{_bare(claim)} ends in {duration(seconds_of(ttl))}")
    return Exit.OK


def release(
    *claims: Annotated[str, Parameter(name="CLAIM", help="Claims: NAME or claim/NAME.")],
    wait: Annotated[
        bool, Parameter(name="--wait", negative="--no-wait", help="Stay until the instance is gone.")
    ] = False,
    timeout: Timeout = "5m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Give claims up. Their instances go; none is ever handed out again."""
    if not claims:
        raise Usage("which claim? see `spinyard get claims`")
    client, seconds = common.client(), seconds_of(timeout)
    names = [Named("Claim", scope.namespace, _bare(word)) for word in claims]
    items = [client.delete("Claim", one.namespace, one.name, key=_key()) for one in names]
    left = until_gone(client, names, timeout_seconds=seconds, quiet=common.is_data) if wait else []
    if common.is_data:
        print_data(items[0] if len(items) == 1 else {"kind": "List", "items": items}, common.output)
    else:
        for one in names:
            print(f"claim/{one.name} {'still there' if one in left else 'gone' if wait else 'released'}")
    if left:
        raise WaitedTooLong(
            f"{counted(len(left), 'claim')} still there after {timeout}; the release goes on",
            next_step=f"spinyard explain claim {left[0].name} -n {scope.namespace}",
        )
    return Exit.OK


def run(
    pool: Annotated[str, Parameter(name="POOL", help="The pool; the command follows after --")],
    *command: Annotated[str, Parameter(name="COMMAND", allow_leading_hyphen=True)],
    env: Env = (),
    file: Files = (),
    wait: Wait = "30s",
    timeout: Annotated[str, Parameter(name="--timeout", help="How long the command may take, at most 24h.")] = "10m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Run a command, without input, in an instance that is nobody else's, and give it up. Its exit code is ours."""
    if not command:
        raise Usage("which command? for example: spinyard run POOL -- python3 -V")
    seconds = seconds_of(timeout)
    if not 0 < seconds <= SECONDS_MAX:
        raise Usage(f"--timeout {timeout}: more than 0, and at most {duration(SECONDS_MAX)}")
    waits = seconds_of(wait)
    # Should this process be killed, its claim ends by itself.
    body = _body(env, file, "") | {"ttl": seconds + waits + 60.0}
    asked = _Asked(scope.namespace, _bare(pool), "", body, waits)
    client = common.client()
    with _released(client, asked):
        item = asked.make(client)
        asked.raise_if_not(item, must_be_ready=True)
        member = str(dig(item, "status", "member", "name"))
        return execute(client, common, scope.namespace, member, command, timeout_seconds=seconds)


class _Asked:
    """One claim, named before it is asked for: who leaves in the middle can release it."""

    def __init__(self, namespace: str, pool: str, name: str, body: Json, wait_seconds: float) -> None:
        self.namespace = namespace
        self.name = name or f"{pool[:40]}-{SystemClock().new_uid()[:6]}"
        self.wait_seconds = wait_seconds
        self._pool = pool
        self._body = body | {"name": self.name, "wait": wait_seconds}

    def make(self, client: Client) -> Json:
        """As it is when it is ready, or failed, or the wait is over."""
        item = client.claim(self.namespace, self._pool, self._body, wait_seconds=self.wait_seconds, key=_key())
        newest = [item]

        def step() -> bool:
            if verdict(newest[0]) is Verdict.WAITING:
                newest[0] = client.get("Claim", self.namespace, self.name, finished=True)
            return verdict(newest[0]) is not Verdict.WAITING

        # The server waits up to a minute itself.
        if self.wait_seconds > 60 and verdict(item) is Verdict.WAITING:
            poll(step, timeout_seconds=self.wait_seconds - 60)
        return newest[0]

    def raise_if_not(self, item: Json, *, must_be_ready: bool) -> None:
        found = verdict(item)
        if found is Verdict.FAILED:
            raise Failed(
                f"Claim {self.name} failed: {why(item) or 'no reason given'}",
                next_step=f"{explain_command(item)}, then spinyard release {self.name} -n {self.namespace}",
            )
        if found is Verdict.WAITING and must_be_ready:
            raise WaitedTooLong(
                f"Claim {self.name} was not ready within {duration(self.wait_seconds)}: {why(item)}",
                next_step=explain_command(item),
            )


@contextmanager
def _released(client: Client, asked: _Asked) -> Iterator[None]:
    """Whatever happens within, the claim is given up; on SIGTERM too."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt:
        print("spinyard: interrupted; the command and its instance are given up", file=sys.stderr)
        raise SystemExit(int(Exit.INCONCLUSIVE)) from None
    finally:
        with suppress(NotFound):
            client.delete("Claim", asked.namespace, asked.name, key=_key())
        signal.signal(signal.SIGTERM, before)


def _body(env: Sequence[str], files: Sequence[str], ttl: str) -> Json:
    body: Json = {"env": dict(_pair(word, "--env", "KEY=VALUE") for word in env)}
    body["files"] = [_file(*_pair(word, "--file", "NAME=PATH")) for word in files]
    return body | ({"ttl": seconds_of(ttl)} if ttl else {})


def _pair(word: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise Usage(f"{option} {word!r} is not {form}")
    return name, value


def _file(name: str, path: str) -> Json:
    try:
        with open(os.path.expanduser(path), "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as cause:
        raise Usage(f"cannot read {path}: {cause.strerror}") from cause
    if len(data) > FILE_BYTES_MAX:
        raise Usage(f"{path} is larger than {FILE_BYTES_MAX >> 20} MiB", next_step="let the program fetch it itself")
    try:
        return {"name": name, "content": data.decode()}
    except UnicodeDecodeError as cause:
        raise Usage(f"{path} is not UTF-8 text (byte {cause.start})") from cause


def _short(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


def _bare(word: str) -> str:
    return word.rpartition("/")[2]


def _key() -> str:
    return f"cli-{SystemClock().new_uid()}"
