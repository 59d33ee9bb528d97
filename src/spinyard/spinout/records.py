"""What a Spinout writes into its history: every transition, every change of weight, every verdict that decided
something, each with the figures it rests on and the configuration it happened under."""

from __future__ import annotations

from typing import Any

import msgspec

from spinyard.core.chain import RecordDraft
from spinyard.core.figures import Gate, SideFigures
from spinyard.core.shift import WEIGHT_ALL
from spinyard.spinout.status import SpinoutStatus

WORDS_MAX, GATE_WORDS_MAX, GATES_MAX = 4_000, 600, 40
"""so that a body is never longer than core.chain.RECORD_BYTES_MAX"""


def transition(before: str, after: str, why: str, reason: str, status: SpinoutStatus) -> RecordDraft:
    return _draft("transition", status, {"from": before, "to": after, "reason": reason, "why": why[:WORDS_MAX]})


def weight_change(before: SpinoutStatus, after: SpinoutStatus, why: str) -> RecordDraft:
    """Asked for, not confirmed."""
    words = {
        "fromWeight": before.weight,
        "toWeight": after.weight,
        "fromMirror": before.mirror,
        "toMirror": after.mirror,
        "why": why[:WORDS_MAX],
    }
    return _draft("weight", after, words)


def verdict(status: SpinoutStatus, how: str, why: str, *, by: str = "") -> RecordDraft:
    """Of the gates as they stand: what it let pass or sent back. `by`: who said so, when it was a person."""
    words: dict[str, Any] = {"how": how, "why": why[:WORDS_MAX], "gates": [_gate(g) for g in status.gates[:GATES_MAX]]}
    if by:
        words["by"] = by
    return _draft("verdict", status, words | {"old": _side(status.old), "new": _side(status.new)})


def confirmed(status: SpinoutStatus, why: str) -> RecordDraft:
    """The data plane has what it was asked for."""
    return _draft("confirmed", status, {"why": why[:WORDS_MAX]})


def renewal(before: SpinoutStatus, after: SpinoutStatus, parent: str, unit: str) -> str:
    """Why what was seen before counts no more; empty: it counts."""
    if before.attempt != after.attempt or not after.is_bounded:
        return ""
    words = [
        f"{name} is {is_now} now, it was {was}"
        for name, was, is_now in (
            (parent, before.old_version, after.old_version),
            (unit, before.new_version, after.new_version),
        )
        if was and was != is_now
    ]
    if before.routes_digest and before.routes_digest != after.routes_digest:
        words.append("other routes, or another parent")
    if before.is_rolling and not after.is_rolling:
        words.append("no instance of the version before is left")
    was_margin = before.evidence.margin if before.evidence is not None else None
    if not words and was_margin is not None and (after.evidence is None or after.evidence.margin != was_margin):
        words.append(f"the margin was {was_margin:g}")
    is_parent_alone = len(words) == 1 and before.old_version not in ("", after.old_version)
    if is_parent_alone and after.weight >= WEIGHT_ALL:
        return f"{'; '.join(words)}: without requests it shows nothing new, so what was seen before counts on"
    return f"what was seen before counts no more: {'; '.join(words)}" if words else ""


def evidence_anew(status: SpinoutStatus, why: str) -> RecordDraft:
    return _draft("evidence", status, {"why": why, "old": status.old_version, "new": status.new_version})


def paged(status: SpinoutStatus, why: str) -> RecordDraft:
    return _draft("page", status, {"why": why[:WORDS_MAX]})


def _draft(kind: str, status: SpinoutStatus, words: dict[str, Any]) -> RecordDraft:
    where = {
        "attempt": status.attempt,
        "step": status.step,
        "weight": status.weight,
        "mirror": status.mirror,
        "config": status.config_digest,
    }
    return RecordDraft(kind, msgspec.json.encode(words | where))


def _gate(gate: Gate) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(gate)
    return shown | {"why": gate.why[:GATE_WORDS_MAX], "name": gate.name[:GATE_WORDS_MAX]}


def _side(side: SideFigures) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(side)
    return shown


def percent(weight: int) -> str:
    return f"{weight * 100 / WEIGHT_ALL:g} %"
