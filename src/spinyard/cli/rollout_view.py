"""A Rollout as its picture needs it, from the published JSON. What is missing there is shown as not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from spinyard.cli.output import dig, state_of
from spinyard.cli.words import duration, epoch_of

Json = Mapping[str, Any]

SUCCEEDED: Final = "succeeded"
ROLLED_BACK: Final = "rolled_back"
ENDED: Final = (SUCCEEDED, ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Side:
    """Figures of the present step. `low`, `high`: 95 % interval of the success rate. Latency in seconds."""

    requests: int = 0
    failures: int = 0
    per_second: float = 0.0
    low: float | None = None
    high: float | None = None
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    ready: int = 0
    alive: int = 0

    @property
    def success(self) -> float | None:
        return 1.0 - self.failures / self.requests if self.requests > 0 else None


@dataclass(frozen=True, slots=True)
class Step:
    """`weight` in percent. `how`: passed, promoted, failed, aborted; empty: not left."""

    weight: float
    pause: str = ""
    how: str = ""
    why: str = ""
    took_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Gate:
    name: str
    verdict: str
    why: str
    needs: int | None = None


@dataclass(frozen=True, slots=True)
class RolloutView:
    """`asked`, `confirmed`: weight of the new side in percent. `step`: index of the present one."""

    name: str
    service: str
    state: str
    why: str
    needs: str
    stopped: str
    steps: tuple[Step, ...]
    step: int
    asked: float
    confirmed: float
    old: Side
    new: Side
    old_template: str
    new_template: str
    gates: tuple[Gate, ...]
    is_paused: bool
    age_seconds: float | None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    def instances_of(self, side: Side) -> str:
        """In traffic, of those alive. The engine counts neither side's any more once the state says that it goes."""
        leaving = self.new if self.state in ("removing", ROLLED_BACK) else self.old
        if self.state not in ("promoting", SUCCEEDED, "removing", ROLLED_BACK) or side is not leaving:
            return f"{side.ready}/{side.alive}"
        return "gone" if self.has_ended else "going"

    @property
    def last_words(self) -> str:
        """What the present step waits for, or how it ended."""
        if self.state == SUCCEEDED:
            return f"done: {self.why or 'every request goes to the new version'}"
        if self.state == ROLLED_BACK:
            return f"rolled back: {self.stopped or self.why or 'no reason given'}"
        if self.stopped:
            return f"going back: {self.stopped}" + (f"; waits for {self.needs}" if self.needs else "")
        if self.is_paused or self.needs.startswith("held "):
            return self.needs or "it is paused"
        return f"waits for {self.needs}" if self.needs and self.needs != "nothing" else self.why or "goes on"


def rollout_view(item: Json, now: float) -> RolloutView:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    finished = epoch_of(status.get("finishedAt"))
    created = epoch_of(dig(item, "metadata", "creationTimestamp"))
    return RolloutView(
        name=str(dig(item, "metadata", "name") or ""),
        service=str(spec.get("service") or ""),
        state=state_of(item),
        why=one_line(status.get("message") or status.get("reason")),
        needs=one_line(status.get("needs")),
        stopped=one_line(status.get("stopped")),
        steps=_steps(spec, status),
        step=int(status.get("step") or 0),
        asked=percent_of(status.get("weight")),
        confirmed=percent_of(status.get("shownWeight")),
        old=side_of(status.get("old")),
        new=side_of(status.get("new")),
        old_template=str(spec.get("oldTemplateDigest") or ""),
        new_template=str(spec.get("templateDigest") or ""),
        gates=tuple(gate_of(one) for one in status.get("gates") or ()),
        is_paused=bool(status.get("paused")),
        age_seconds=None if created is None else max(0.0, (finished or now) - created),
    )


def percent_of(parts: object) -> float:
    """The status counts in parts of 10,000, as the engine does."""
    return parts / 100 if isinstance(parts, int | float) else 0.0


def percent_text(weight: float) -> str:
    return f"{weight:g} %"


def rate_text(share: float | None) -> str:
    """Never rounded to 100 %: that is said only of all."""
    if share is None:
        return "-"
    if share > 1.0 - 1e-9:
        return "100 %"
    return f"{math.floor(share * 1000) / 10:.1f} %"


def _steps(spec: Json, status: Json) -> tuple[Step, ...]:
    """What was asked for, each with how it was left. A step may be left out (promote --full), so they are matched by
    weight."""
    left = {percent_of(one.get("weight")): one for one in status.get("steps") or ()}
    asked = dig(spec, "strategy", "steps") or ()
    return tuple(_step(one, left.get(float(one.get("weight") or 0), {})) for one in asked)


def _step(asked: Json, left: Json) -> Step:
    pause = asked.get("pause")
    words = pause_words(pause)
    begun, ended = epoch_of(left.get("begunAt")), epoch_of(left.get("leftAt"))
    return Step(
        weight=float(asked.get("weight") or 0),
        pause=words,
        how=str(left.get("how") or ""),
        why=one_line(left.get("why")),
        took_seconds=ended - begun if begun is not None and ended is not None else None,
    )


def pause_words(pause: object) -> str:
    if pause is True:
        return "until promoted"
    if not isinstance(pause, int | float):
        return ""
    return f"{pause:g}s" if pause < 120 else duration(pause)


def side_of(found: object) -> Side:
    if not isinstance(found, Mapping):
        return Side()
    return Side(
        requests=int(found.get("requests") or 0),
        failures=int(found.get("failures") or 0),
        per_second=float(found.get("perSecond") or 0.0),
        low=_number(found.get("low")),
        high=_number(found.get("high")),
        p50=_number(found.get("p50")),
        p95=_number(found.get("p95")),
        p99=_number(found.get("p99")),
        ready=int(found.get("ready") or 0),
        alive=int(found.get("alive") or 0),
    )


def gate_of(found: Json) -> Gate:
    needs = found.get("needs")
    return Gate(
        str(found.get("name") or ""),
        str(found.get("verdict") or ""),
        one_line(found.get("why")),
        int(needs) if isinstance(needs, int | float) else None,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def one_line(text: object) -> str:
    return " ".join(str(text or "").split())
