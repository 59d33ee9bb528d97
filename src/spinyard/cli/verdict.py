"""Whether an object has come to where it was sent, gave up on the way, or is still going."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from spinyard.cli.output import condition, dig, is_deleting, state_of

Json = Mapping[str, Any]


class Verdict(StrEnum):
    DONE = "done"
    FAILED = "failed"
    WAITING = "waiting"


def verdict(item: Json) -> Verdict:
    """A Service that goes on retrying is WAITING, however often it failed; one that went back to its old version is
    FAILED, although it serves."""
    match item.get("kind"):
        case "Template" | "Spinout":
            # A Spinout goes on for weeks, and begins when a person says so: what was asked for is written.
            return Verdict.DONE
        case "Job":
            return _job(item)
        case "Rollout":
            return _rollout(item)
        case _:
            return _service(item)


def has_condition(item: Json, name: str, status: str = "True") -> bool:
    found = condition(item, name)
    return found is not None and str(found.get("status", "")).lower() == status.lower()


def _service(item: Json) -> Verdict:
    if is_deleting(item) or state_of(item) in ("failed", "terminated"):
        return Verdict.FAILED
    if int(dig(item, "status", "observedGeneration") or 0) < int(dig(item, "metadata", "generation") or 0):
        return Verdict.WAITING
    progressing = condition(item, "Progressing")
    if progressing is not None and progressing.get("reason") == "RolledBack":
        return Verdict.FAILED
    return Verdict.DONE if state_of(item) in ("available", "serving", "ready") else Verdict.WAITING


def _rollout(item: Json) -> Verdict:
    if state_of(item) == "succeeded":
        return Verdict.DONE
    return Verdict.FAILED if state_of(item) == "rolled_back" else Verdict.WAITING


def _job(item: Json) -> Verdict:
    if dig(item, "status", "outcome") == "Succeeded" or state_of(item) == "succeeded":
        return Verdict.DONE
    return Verdict.FAILED if is_deleting(item) or state_of(item) in ("failed", "terminated") else Verdict.WAITING
