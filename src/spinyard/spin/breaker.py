"""The breaker of a template: after too many failed starts nothing starts more of it by itself, whoever asks for them.

Derived from the records of the starts themselves, so every parent of every kind sees the same, and nothing is counted
beside them. A start is good when its instance came up and did not fail within FLAP_SECONDS. A trial start carries in
its spec how many were tried before it; one good trial closes the breaker.
Never: two trials at once. The reservation of `scope_of`, taken in the commit that makes the trial, sees to that.

As described by M. Nygard, "Release It!" (circuit breaker: closed, open, half-open), over starts instead of calls.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from spinyard.core.backoff import backoff_seconds
from spinyard.core.ids import Digest, Uid
from spinyard.core.observed import FLAP_SECONDS, LookStarts, StartRecord, Starts

STARTS_MAX = 10
"""starts that are looked at: the last ones, over all parents"""
FAILURES = 5
"""so many of them failed: open"""
COOL_SECONDS = 30.0
COOL_SECONDS_MAX = 300.0


@dataclass(frozen=True, slots=True)
class Breaker:
    """`until`: no trial before. `trials`: how many failed in a row. `cause`: the most frequent error class of the
    failures, `cause_count` times. `last`: the newest failure."""

    is_open: bool = False
    until: float = 0.0
    trials: int = 0
    failures: int = 0
    of: int = 0
    cause: str = ""
    cause_count: int = 0
    last: StartRecord | None = None

    @property
    def words(self) -> str:
        said = "" if self.last is None else f": {self.last.message}"
        tried = f"; {self.trials} more tried one by one since" if self.trials > 1 else ""
        return (
            f"{self.failures} of the last {self.of} starts of its template failed before they were up for "
            f"{FLAP_SECONDS:g} s, most often {self.cause} ({self.cause_count}){tried}{said}"
        )


CLOSED = Breaker()


def scope_of(digest: Digest) -> str:
    return f"{SCOPE}{digest}"


SCOPE = "breaker:"


def starts_look(digest: Digest) -> LookStarts:
    return LookStarts(digest, scope_of(digest), STARTS_MAX)


def breaker_of(starts: Starts, digest: Digest, owner: Uid, now: float, *, since: float) -> Breaker:
    """`since`: when a person last asked this parent for starts of this template; what was started before does not
    count. Records that a clock that went back left in the future are left out: nothing would start until then."""
    known: list[StartRecord] = []
    for record in starts.recent:
        is_young = not record.failed and now - record.at < FLAP_SECONDS
        if record.created_at < since or record.at > now or is_young:
            continue
        if record.trial and not record.failed:
            break
        known.append(record)
    failed = [record for record in known if record.failed]
    is_trial_newest = bool(known) and known[0].failed and known[0].trial > 0
    if len(failed) < FAILURES and not is_trial_newest:
        return CLOSED
    last = failed[0]
    trials = next((record.trial for record in failed if record.trial), 0)
    [(cause, count)] = Counter(record.outcome for record in failed).most_common(1)
    cool = backoff_seconds(trials + 1, f"{owner}/{digest}", first=COOL_SECONDS, limit=COOL_SECONDS_MAX)
    return Breaker(True, last.at + cool, trials, len(failed), len(known), cause, count, last)
