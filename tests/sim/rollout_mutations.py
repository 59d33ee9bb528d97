"""Planted bugs of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec

from spinyard.core.observed import Traffic
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.verdict import Verdict, evidence
from spinyard.spin.gate import Gate
from spinyard.spin.rollout import decide, measure
from spinyard.spin.rollout.snapshot import RolloutSnapshot
from spinyard.spin.service import decide as service_decide
from spinyard.spin.service import new_side, roll
from spinyard.spin.service.sides import Sides
from spinyard.spin.service.snapshot import Fleet, fleet_of
from spinyard.store import rollouts as store_rollouts
from spinyard.usecases import rollout_start

Mutation = Callable[[], AbstractContextManager[None]]


@contextmanager
def weight_raised_without_a_pass() -> Iterator[None]:
    with patch.object(decide, "waits", lambda s, status: []):
        yield


@contextmanager
def retreat_keeps_the_weight() -> Iterator[None]:
    original = RolloutSnapshot.asking

    def asking(self: Any, status: Any, *, weight: int | None = None, replicas: int | None = None) -> Any:
        return original(self, status, weight=weight or None, replicas=replicas)

    with patch.object(RolloutSnapshot, "asking", asking):
        yield


@contextmanager
def removed_before_zero_is_shown() -> Iterator[None]:
    with patch.object(decide, "retreating", lambda s: decide.remove(s, s.status, "no patience")):
        yield


@contextmanager
def an_older_serial_is_believed() -> Iterator[None]:
    with patch.object(RolloutSnapshot, "is_shown", property(lambda s: s.shown.serial >= 0)):
        yield


@contextmanager
def shown_before_it_is_confirmed() -> Iterator[None]:
    """The Service says that a weight is in force as soon as it was asked for."""
    with patch.object(new_side, "unconfirmed", lambda s, part: ""):
        yield


@contextmanager
def counted_over_two_epochs() -> Iterator[None]:
    original = vars(RolloutSnapshot)["traffic"].fget

    def traffic(self: Any) -> Any:
        found = original(self)
        return msgspec.structs.replace(found, epoch="always") if isinstance(found, Traffic) else found

    with patch.object(RolloutSnapshot, "traffic", property(traffic)):
        yield


@contextmanager
def nothing_counted_is_good() -> Iterator[None]:
    """No evidence is taken for a pass."""
    original = measure.success_gate

    def success_gate(s: Any, status: Any) -> Any:
        gate = original(s, status)
        nothing = status.evidence is None or not status.evidence.new.requests
        return msgspec.structs.replace(gate, verdict=str(Verdict.PASS)) if nothing else gate

    with patch.object(measure, "success_gate", success_gate):
        yield


@contextmanager
def senseless_counters_are_folded() -> Iterator[None]:
    with patch.object(evidence, "_problem", lambda increment: ""):
        yield


@contextmanager
def a_failed_gate_is_ignored() -> Iterator[None]:
    with patch.object(decide, "broken", lambda s, status: None):
        yield


@contextmanager
def an_abort_is_ignored() -> Iterator[None]:
    with patch.object(decide, "unwanted", lambda s: None):
        yield


@contextmanager
def a_pause_is_ignored() -> Iterator[None]:
    original = decide.RolloutDomain._snapshot

    def snapshot(self: Any, row: Any, seen: Any, now: float) -> Any:
        return original(self, replace(row, paused=False), seen, now)

    with patch.object(decide.RolloutDomain, "_snapshot", snapshot):
        yield


@contextmanager
def a_hold_is_ignored() -> Iterator[None]:
    with patch.object(RolloutSnapshot, "held", property(lambda s: None)):
        yield


@contextmanager
def a_hold_lets_parents_start() -> Iterator[None]:
    """Services and pools replace what fails although they are held."""
    original = Gate.most

    def most(self: Any, wanted: int, asked: int) -> int:
        return original(replace(self, held=None), wanted, asked)

    with patch.object(Gate, "most", most):
        yield


@contextmanager
def a_second_rollout_is_taken() -> Iterator[None]:
    """Another template is not refused while a Rollout runs, and one takes the other's part."""

    def set_part(spec: Any, change: Any) -> Any:
        if spec.template_digest != change.old_digest or spec.rollout == change.part:
            return None
        return replace(spec, rollout=change.part)

    with (
        patch.object(rollout_start, "running_of", lambda tx, service: None),
        patch.object(rollout_start, "running_rollout", lambda tx, namespace, uid: None),
        patch.object(store_rollouts, "_set", set_part),
    ):
        yield


@contextmanager
def every_end_is_a_promotion() -> Iterator[None]:
    original = store_rollouts._end

    def end(spec: Any, change: Any, rollout: Any) -> Any:
        return original(spec, replace(change, promote=True), rollout)

    with patch.object(store_rollouts, "_end", end):
        yield


@contextmanager
def the_side_is_not_switched() -> Iterator[None]:
    original = store_rollouts._end

    def end(spec: Any, change: Any, rollout: Any) -> Any:
        after = original(spec, change, rollout)
        return None if after is None else replace(after, side=spec.side)

    with patch.object(store_rollouts, "_end", end):
        yield


@contextmanager
def a_part_stays_after_its_end() -> Iterator[None]:
    original = store_rollouts._end

    def end(spec: Any, change: Any, rollout: Any) -> Any:
        return original(spec, change, rollout) if change.promote else None

    with patch.object(store_rollouts, "_end", end):
        yield


@contextmanager
def the_stable_side_is_shrunk() -> Iterator[None]:
    """What the new side has is taken from the stable one."""
    original = roll.surplus

    def surplus(s: Any, fleet: Any) -> Any:
        if s.part is None:
            return original(s, fleet)
        fewer = max(0, s.spec.replicas - s.part.replicas)
        return original(replace(s, spec=replace(s.spec, replicas=fewer)), fleet)

    with patch.object(roll, "surplus", surplus):
        yield


@contextmanager
def the_new_side_counts_as_stable() -> Iterator[None]:
    def sides_of(s: Any) -> Any:
        return Sides(fleet_of(s.children, s.status.first_slot), Fleet(()), Fleet(()))

    with patch.object(roll, "sides_of", sides_of):
        yield


@contextmanager
def weight_before_the_instances() -> Iterator[None]:
    """A weight is given to a side that has nobody in traffic."""
    original = decide.preparing

    def preparing(s: Any) -> Any:
        enough = msgspec.structs.replace(s.shown, ready=99)
        with patch.object(RolloutSnapshot, "shown", property(lambda s: enough)):
            return original(s)

    with patch.object(decide, "preparing", preparing):
        yield


@contextmanager
def all_requests_at_once() -> Iterator[None]:
    """The route sends every request to the new side as soon as it gets any."""
    original = service_decide.split_of

    def split_of(s: Any) -> Any:
        split = original(s)
        return msgspec.structs.replace(split, weight=WEIGHT_ALL) if split is not None and split.weight else split

    with patch.object(service_decide, "split_of", split_of):
        yield


ROLLOUT_MUTATIONS: dict[str, Mutation] = {
    one.__name__: one
    for one in (
        weight_raised_without_a_pass,
        retreat_keeps_the_weight,
        removed_before_zero_is_shown,
        an_older_serial_is_believed,
        shown_before_it_is_confirmed,
        counted_over_two_epochs,
        nothing_counted_is_good,
        senseless_counters_are_folded,
        a_failed_gate_is_ignored,
        an_abort_is_ignored,
        a_pause_is_ignored,
        a_hold_is_ignored,
        a_hold_lets_parents_start,
        a_second_rollout_is_taken,
        every_end_is_a_promotion,
        the_side_is_not_switched,
        a_part_stays_after_its_end,
        the_stable_side_is_shrunk,
        the_new_side_counts_as_stable,
        weight_before_the_instances,
        all_requests_at_once,
    )
}

ROLLOUT_FIRST_SEED = {
    "weight_raised_without_a_pass": 8,
    "retreat_keeps_the_weight": 11,
    "removed_before_zero_is_shown": 11,
    "an_older_serial_is_believed": 8,
    "shown_before_it_is_confirmed": 8,
    "counted_over_two_epochs": 8,
    "nothing_counted_is_good": 8,
    "senseless_counters_are_folded": 99,
    "a_failed_gate_is_ignored": 46,
    "an_abort_is_ignored": 11,
    "a_pause_is_ignored": 15,
    "a_hold_is_ignored": 151,
    "a_hold_lets_parents_start": 4,
    "a_second_rollout_is_taken": 8,
    "the_side_is_not_switched": 8,
    "all_requests_at_once": 8,
}
