"""Two answers to one read, field by field; what differs by itself is learned and does not count.

An answer is flattened to named fields: `status`, `header NAME`, and for JSON one field for each leaf (`body
/items/*/id`: places in a list share a name, so that the mask of one entry holds for all); any other body is one field.
The parent answers some reads twice: how often a field differs between those two is its noise. A field counts as
different when it differs between the sides clearly more often than by itself.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from spinyard.core.observed import ShadowFound

BODY_BYTES_MAX = 1 << 20
DEPTH_MAX = 32
FIELDS_MAX = 500
NAME_CHARS_MAX = 160
NAMES_CHARS_MAX = 40_000
"""of all names of one answer; beyond it is compared as bytes"""
KINDS_MAX = 50
"""distinct sets of differing fields that are counted apart"""
DIFFERING_MAX = 20
HEADERS_MAX = 100
SAMPLES_MAX = 20
VALUE_CHARS_MAX = 80
NOISE_MIN = 5
"""reads that the parent answered twice, before anything passes"""

REDACTED = "[redacted]"
_NEVER_STORED = ("authorization", "cookie", "set-cookie", "password", "secret", "token", "api-key", "apikey", "api_key")
# Of one connection or one moment, or put there by whoever stands in between.
_NO_PART = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "age", "server", "via", "x-request-id",
     "traceparent", "tracestate", "server-timing", "upgrade", "trailer", "te", "proxy-connection"}
)  # fmt: skip
_NO_PART_PREFIXES = ("x-envoy-", "x-spinyard-", "x-b3-")

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Rules:
    """`ignore`: names of fields, of headers, or last parts of paths, that may differ. `unordered`: lists whose order
    does not matter, by the last part of their path; `*`: all. `redact`: values that are never kept."""

    ignore: frozenset[str] = frozenset()
    unordered: frozenset[str] = frozenset()
    redact: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Sample:
    """One request that was answered differently. `fields`: (name, the parent's value, the unit's value), redacted."""

    at: float
    method: str
    path: str
    fields: tuple[tuple[str, str, str], ...]


def fields_of(answer: Answer, rules: Rules) -> dict[str, str]:
    out = {"status": str(answer.status)}
    seen: dict[str, list[str]] = {}
    for name, value in answer.headers:
        low = name.lower()
        if low not in _NO_PART and not low.startswith(_NO_PART_PREFIXES):
            seen.setdefault(low, []).append(value)
    headers = list(seen.items())[:HEADERS_MAX]
    out |= {_short(f"header {name}"): ", ".join(values) for name, values in headers}
    out |= _body_fields(answer, rules)
    return {name: value for name, value in out.items() if not _is_named(name, rules.ignore)}


def differing(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """With another status nothing else is compared: an error page differs everywhere."""
    if old.get("status") != new.get("status"):
        return ("status",)
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return (*names[:DIFFERING_MAX], *(["(and more)"] if len(names) > DIFFERING_MAX else []))


def sample(at: float, method: str, path: str, old: Mapping[str, str], new: Mapping[str, str], rules: Rules) -> Sample:
    names = differing(old, new)[:10]
    shown = tuple((name, _kept(name, old.get(name), rules), _kept(name, new.get(name), rules)) for name in names)
    return Sample(at, method, path.partition("?")[0][:200], shown)


def _kept(name: str, value: str | None, rules: Rules) -> str:
    if value is None:
        return "(absent)"
    low = name.lower()
    if _is_named(name, rules.redact) or any(word in low for word in _NEVER_STORED):
        return REDACTED
    return value if len(value) <= VALUE_CHARS_MAX else value[: VALUE_CHARS_MAX - 1] + "…"


def _is_named(name: str, names: frozenset[str]) -> bool:
    if not names:
        return False
    plain = name.removeprefix("header ").removeprefix("body ")
    return name in names or plain in names or plain.rpartition("/")[2] in names


# -- bodies ------------------------------------------------------------------------------------------------------------


def _body_fields(answer: Answer, rules: Rules) -> dict[str, str]:
    body = answer.body
    kind = next((value for name, value in answer.headers if name.lower() == "content-type"), "")
    if len(body) <= BODY_BYTES_MAX and ("json" in kind or body[:1] in (b"{", b"[")):
        try:
            parsed: Json = json.loads(body)
            out: dict[str, list[str]] = {}
            _flatten(parsed, "", out, rules, 0)
            return {f"body {path or '/'}": "\n".join(values) for path, values in out.items()}
        except (ValueError, RecursionError):
            pass  # it is compared as what it is: bytes
    return {"body": f"{len(body)} bytes, sha256 {hashlib.sha256(body).hexdigest()[:16]}"}


def _flatten(value: Json, path: str, out: dict[str, list[str]], rules: Rules, depth: int) -> None:
    """What is redacted is one field, with all that is in it: names may tell as much as values."""
    if len(out) >= FIELDS_MAX or sum(map(len, out)) > NAMES_CHARS_MAX:
        raise ValueError("too many fields")
    is_whole = depth >= DEPTH_MAX or (path and _is_named(path, rules.redact))
    match value:
        case dict() if value and not is_whole:
            for key, below in value.items():
                _flatten(below, _short(f"{path}/{key}"), out, rules, depth + 1)
        case list() if value and not is_whole:
            for below in _ordered(value, path, rules):
                _flatten(below, f"{path}/*", out, rules, depth + 1)
        case _:
            out.setdefault(path, []).append(json.dumps(value, sort_keys=True))


def _short(name: str) -> str:
    """Names come from whoever answers: a long one is its beginning and a hash."""
    if len(name) <= NAME_CHARS_MAX:
        return name
    return f"{name[: NAME_CHARS_MAX - 20]}…{hashlib.sha256(name.encode(errors='replace')).hexdigest()[:16]}"


def _ordered(values: Sequence[Json], path: str, rules: Rules) -> Sequence[Json]:
    last = path.rpartition("/")[2]
    if "*" in rules.unordered or path in rules.unordered or last in rules.unordered:
        return sorted(values, key=lambda one: json.dumps(one, sort_keys=True))
    return values


# -- what was found ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Findings:
    """Counts of one boundary since `begun_at`. Bounded, whatever comes."""

    begun_at: float
    compared: int = 0
    errors: int = 0
    skipped: int = 0
    noise_reads: int = 0
    noise: Counter[str] = field(default_factory=Counter)
    differed: Counter[tuple[str, ...]] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)

    def note_noise(self, names: Sequence[str]) -> None:
        self.noise_reads += 1
        for name in names:
            if name in self.noise or len(self.noise) < FIELDS_MAX:
                self.noise[name] += 1

    def note(self, names: tuple[str, ...], seen: Sample | None, *, is_error: bool = False) -> None:
        """An error is one, and no difference beside it."""
        self.compared += 1
        if is_error:
            self.errors += 1
            self.failed[names[0]] += 1
        if seen is not None:
            self.samples = [*self.samples[-(SAMPLES_MAX - 1) :], seen]
        if is_error or not names:
            return
        if names not in self.differed and len(self.differed) >= KINDS_MAX:
            names = ("(too many kinds of differences)",)
        self.differed[names] += 1

    def is_noise(self, name: str, differed: int) -> bool:
        """Not clearly more often than by itself: the upper end of its noise (Wilson, 99.9 %) reaches its rate."""
        if not self.noise[name] or not self.compared:
            return False
        return differed / self.compared <= _upper(self.noise[name], self.noise_reads)

    def by_field(self) -> list[tuple[str, int]]:
        """(name, how often), beyond the noise, most frequent first; errors are never noise."""
        counts: Counter[str] = Counter()
        for names, times in self.differed.items():
            for name in names:
                counts[name] += times
        real = [(name, times) for name, times in counts.items() if not self.is_noise(name, times)]
        return sorted([*self.failed.items(), *real], key=lambda one: (-one[1], one[0]))

    def found(self) -> ShadowFound:
        """Nothing counts as compared, nor as different, before the noise is known."""
        fields = self.by_field()
        if self.noise_reads < NOISE_MIN:
            return ShadowFound(0, 0, 0, self.skipped, tuple(fields[:10]))
        real = {name for name, _ in fields}
        different = sum(times for names, times in self.differed.items() if real.intersection(names))
        return ShadowFound(self.compared, different, self.errors, self.skipped, tuple(fields[:10]))


def _upper(times: int, n: int, z: float = 3.09) -> float:
    p = times / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    return min(1.0, middle + z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n))
