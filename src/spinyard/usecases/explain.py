"""Why an object is as it is: one line, the evidence, who must act, when it is tried next. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from spinyard.core.observed import ChildFailure
from spinyard.core.spec import Kind
from spinyard.errors import ErrorClass
from spinyard.ports.store import StoredEvent, StoredObject
from spinyard.spin.gate import HELD
from spinyard.usecases import explain_gate, explain_rollout, explain_spinout
from spinyard.usecases.views import ObjectView, conditions

EVENTS_SHOWN_MAX = 5
LOG_LINES_MAX = 20
TEXT_MAX = 4000
LATELY_SECONDS = 60.0


class Who(StrEnum):
    USER = "user"
    PROVIDER = "provider"
    SPINYARD = "spinyard"
    NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Evidence:
    """`source` is log, provider, event or condition; of a Rollout also rollout, gate, judge, figures, step or instance;
    of a Spinout spinout, gate, judge, figures, phase, approval or instance. `at` is None where nothing tells."""

    source: str
    text: str
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    cause: str
    who: Who
    evidence: tuple[Evidence, ...]
    next_try_at: float | None
    next_step: str


@dataclass(frozen=True, slots=True)
class Facts:
    """`events`: newest first, of the object and its children. `failures`: of its children, newest first. `log_tail`: of
    the instance that matters. `waits_for`: dependencies that are not there yet."""

    found: ObjectView
    now: float
    events: Sequence[StoredEvent] = ()
    failures: Sequence[ChildFailure] = ()
    log_tail: str = ""
    waits_for: Sequence[str] = ()


def explain(facts: Facts) -> Explanation:
    if facts.found.stored.row.kind is Kind.ROLLOUT:
        return _explain_moving(facts, explain_rollout)
    if facts.found.stored.row.kind is Kind.SPINOUT:
        return _explain_moving(facts, explain_spinout)
    error_class, message = _trouble(facts)
    if facts.found.stored.reason in explain_gate.REASONS and not facts.found.is_finished:
        cause, next_step = explain_gate.explained(facts.found.stored)
        if error_class is not None and facts.found.stored.reason != HELD:
            # What fails comes first; that no more is started is because of that.
            who, advice = _ADVICE.get(error_class, _ADVICE[ErrorClass.INTERNAL])
            return _explanation(
                facts, f"{error_class}: {_first_line(message) or cause}", who, f"{advice} {next_step}", message
            )
        return _explanation(facts, cause, Who.USER, next_step, "")
    if error_class is not None:
        who, next_step = _ADVICE.get(error_class, _ADVICE[ErrorClass.INTERNAL])
        if facts.found.stored.row.kind is Kind.CLAIM:
            next_step += " Then release this claim, and claim anew."
        cause = f"{error_class}: {_first_line(message)}" if message else str(error_class)
        return _explanation(facts, cause, who, next_step, message)
    if facts.waits_for:
        waits = ", ".join(facts.waits_for)
        return _explanation(facts, f"Waits for {waits}.", Who.NOBODY, f"See `spinyard explain` of {waits}.", "")
    stored = facts.found.stored
    cause = _first_line(stored.why) or f"It is {stored.row.state}."
    return _explanation(facts, cause, Who.NOBODY, _plain_next_step(facts.found), "")


class Words(Protocol):
    """What one kind that moves requests says of itself."""

    def cause(self, found: StoredObject) -> str: ...

    def is_users(self, found: StoredObject) -> bool: ...

    def next_step(self, found: StoredObject) -> str: ...

    def evidence(self, found: StoredObject) -> Iterator[tuple[str, str, float | None]]: ...


def _explain_moving(facts: Facts, words: Words) -> Explanation:
    stored = facts.found.stored
    lines = [Evidence(source, text[:TEXT_MAX], at) for source, text, at in words.evidence(stored)]
    # A step's words are in its event too: those of the record have the figures.
    events = [
        Evidence("event", f"{event.reason}: {event.message}"[:TEXT_MAX], event.at)
        for event in facts.events[:EVENTS_SHOWN_MAX]
    ]
    who = Who.USER if words.is_users(stored) else Who.NOBODY
    cause = _first_line(words.cause(stored))
    next_try = None if facts.found.is_finished else stored.wake_at
    return Explanation(cause, who, (*lines, *events), next_try, words.next_step(stored))


def _trouble(facts: Facts) -> tuple[ErrorClass | None, str]:
    """The newest error there is to see: its own, else the last failure of a child. What has been well for a while has
    none, whatever its records say."""
    found = facts.found
    if _is_well(found) and not _failed_lately(facts):
        return None, ""
    status, stored = found.status, found.stored
    for text, message in (
        (stored.row.outcome, stored.why),
        (str(status.get("last_error_class", "")), str(status.get("last_error", ""))),
        (stored.reason, stored.why),
    ):
        error_class = _error_class(text)
        if error_class is ErrorClass.INSTANCE_LOST and facts.failures:
            # A claim lost its instance: why that one went is what matters.
            error_class = _error_class(facts.failures[0].outcome) or error_class
        if error_class is not None:
            return error_class, message or stored.why
    if not facts.failures:
        return None, ""
    newest = facts.failures[0]
    return _error_class(newest.outcome) or ErrorClass.INTERNAL, newest.message


def _is_well(found: ObjectView) -> bool:
    went_back = any(c.get("reason") == "RolledBack" for c in conditions(found.status))
    return found.stored.row.state in ("available", "serving", "ready", "succeeded", "active") and not went_back


def _failed_lately(facts: Facts) -> bool:
    """A program that starts and dies in turn is well for a moment each time."""
    return bool(facts.failures) and facts.now - facts.failures[0].failed_at < LATELY_SECONDS


def _error_class(text: str) -> ErrorClass | None:
    return ErrorClass(text) if text in set(ErrorClass) else None


def _explanation(facts: Facts, cause: str, who: Who, next_step: str, message: str) -> Explanation:
    finished = facts.found.is_finished
    next_try = None if finished or who is Who.NOBODY else facts.found.stored.wake_at
    return Explanation(cause, who, _evidence(facts, message), next_try, next_step)


def _evidence(facts: Facts, message: str) -> tuple[Evidence, ...]:
    out: list[Evidence] = []
    tail = facts.log_tail or str(facts.found.status.get("diagnostics", ""))
    if tail.strip():
        out.append(Evidence("log", "\n".join(tail.rstrip().splitlines()[-LOG_LINES_MAX:])[-TEXT_MAX:]))
    if facts.found.rollout is not None:
        running = facts.found.rollout
        words = f"{running.row.name} is {running.row.state}: {explain_rollout.cause(running)}"
        out.append(Evidence("rollout", words[:TEXT_MAX]))
    if message and "\n" in message.strip():
        out.append(Evidence("provider", message[:TEXT_MAX]))
    for one in conditions(facts.found.status):
        is_told = one.get("status") != "True" or one.get("type") in explain_gate.REASONS
        if is_told and one.get("reason") != "NotRequested":
            words = f"{one.get('type')} is {one.get('status')}: {one.get('reason')}"
            text = str(one.get("message") or "")
            at = one.get("last_transition_at")
            out.append(Evidence("condition", f"{words} ({text})" if text else words, _number(at)))
    for event in facts.events[:EVENTS_SHOWN_MAX]:
        out.append(
            Evidence("event", f"{event.kind} {event.name}: {event.reason}: {event.message}"[:TEXT_MAX], event.at)
        )
    return tuple(out)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0][:300] if text.strip() else ""


def _plain_next_step(found: ObjectView) -> str:
    row = found.stored.row
    if found.is_finished:
        return "Nothing: it is finished."
    if row.delete_at is not None:
        return "Nothing: it is being deleted; if it cannot end, `spinyard delete --force` lets go of what is left."
    if row.paused:
        return "It is paused: `spinyard resume` lets it go on." if row.kind is Kind.SERVICE else "It is paused."
    return "Nothing: all is as wished." if _is_well(found) else "Nothing: it is on its way."


_ADVICE: dict[ErrorClass, tuple[Who, str]] = {
    ErrorClass.COMMAND_NOT_FOUND: (
        Who.USER,
        "Correct `command` in the template, or install the program, and apply again.",
    ),
    ErrorClass.COMMAND_NOT_EXECUTABLE: (
        Who.USER,
        "Make the file executable (chmod +x) or name its interpreter in `command`.",
    ),
    ErrorClass.PROCESS_EXITED: (Who.USER, "Read the log: the program ended by itself. Correct it and apply again."),
    ErrorClass.OUT_OF_MEMORY: (Who.USER, "Raise `resources.limits.memory`, or let the program need less."),
    ErrorClass.DISK_FULL: (Who.USER, "Make room on the disk of the home; it goes on by itself."),
    ErrorClass.PORT_UNAVAILABLE: (
        Who.USER,
        "Free the port (`ss -ltnp` shows who has it) or leave `port` out to get a free one.",
    ),
    ErrorClass.PROVISION_TIMEOUT: (Who.PROVIDER, "It is tried again; `spinyard doctor` looks at the machine."),
    ErrorClass.QUEUE_TIMEOUT: (Who.USER, "Free what it waits for (ports, quota), or raise `queueTimeoutSeconds`."),
    ErrorClass.QUOTA_EXCEEDED: (Who.USER, "Delete something, or raise the quota."),
    ErrorClass.CAPACITY_UNAVAILABLE: (Who.PROVIDER, "It is tried again; free capacity on the machine."),
    ErrorClass.RATE_LIMITED: (Who.PROVIDER, "It is tried again when the provider allows."),
    ErrorClass.SECRET_DENIED: (Who.USER, "Check that the secret file exists and that the instance may read it."),
    ErrorClass.BOOTSTRAP_EXIT: (Who.USER, "Read the log of the step (`spinyard logs --part`): its command failed."),
    ErrorClass.BOOTSTRAP_TIMEOUT: (Who.USER, "Read the log of the step: it hangs, or needs a longer `timeoutSeconds`."),
    ErrorClass.SMOKE_TEST_FAILED: (Who.USER, "The program runs but fails its smoke test: correct it, or the test."),
    ErrorClass.PROBE_FAILED: (Who.USER, "Check path and port of the probe, and the log of the program."),
    ErrorClass.REGISTER_TIMEOUT: (
        Who.SPINYARD,
        "The gateway did not confirm in time; `spinyard doctor` looks at it. It is tried again.",
    ),
    ErrorClass.DEPENDENCY_FAILED: (Who.USER, "Mend what it depends on: `spinyard explain` of that object."),
    ErrorClass.CANNOT_ENFORCE: (
        Who.USER,
        "Ask for less isolation or another limit; `spinyard doctor` tells what can be had here.",
    ),
    ErrorClass.TIMEOUT: (
        Who.USER,
        "It ran longer than it may: raise `timeoutSeconds`, or find out why it takes so long.",
    ),
    ErrorClass.INSTANCE_LOST: (
        Who.PROVIDER,
        "The instance is gone without a word (reboot, kill of its shim); it is replaced.",
    ),
    ErrorClass.CLAIM_HOOK_FAILED: (
        Who.USER,
        "The pool's `onClaim` failed or took too long in the member: read its log, correct the hook, and claim again.",
    ),
    ErrorClass.PROVIDER_ERROR: (Who.PROVIDER, "It is tried again; the evidence has the reply."),
    ErrorClass.INTERNAL: (Who.SPINYARD, "This is our fault: please report it with the evidence."),
}
