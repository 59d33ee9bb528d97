"""A member of a pool: warm until it is claimed; then probed once more, given what the claim brings, and made known.

A claimed member never goes back. Each step of the claim is proved before the next: the probe answers, the files are
seen with their content, the hook ends well.

The hook runs at least once: after a crash between its answer and the commit of it, it runs again in the same member.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from spinyard.core.actions import Action, Ensure
from spinyard.core.observed import DirectoryFacts, Look, LookProbe, LookResource, LookWatch, Present, ProbeAnswer
from spinyard.core.plan import Plan
from spinyard.core.spec import Probe
from spinyard.core.want import content_mark
from spinyard.errors import ErrorClass
from spinyard.spin.bootstrap import probe_look
from spinyard.spin.errand import put_to_use
from spinyard.spin.serve import READINESS, lost, take_down
from spinyard.spin.snapshot import LOOPBACK, Snapshot
from spinyard.spin.translate import claim_directory, claim_files, readiness

PROBE, FILES, HOOK, DONE = range(4)
CLAIM_SECONDS = 10.0
"""for the probe and the files of a claim; its hook has a limit of its own"""


def warm(s: Snapshot) -> Plan:
    if s.deleting:
        return take_down(s)
    gone = lost(s)
    if gone is not None:
        return gone
    if s.spec.claim is None:
        return waiting(s)
    match s.status.claim_step:
        case 0:
            return probe_again(s)
        case 1:
            return write_files(s)
        case 2:
            return run_hook(s)
        case _:
            return put_to_use(s)


def waiting(s: Snapshot) -> Plan:
    watch = readiness_watch(s)
    if watch is not None:
        result = s.probe(watch)
        if result.answer is ProbeAnswer.FAILED:
            return s.fail(ErrorClass.PROBE_FAILED, f"its readiness probe fails while it is warm: {result.message}")
    wake = None if s.expires_at is None else max(0.0, s.expires_at - s.now)
    return s.stay("waiting in its pool to be claimed", "Warm", wake_in=wake)


def probe_again(s: Snapshot) -> Plan:
    """Within milliseconds of the claim: a member that is not good now is not handed out."""
    probe = readiness(s)
    if probe is None:
        return write_files(at(s, FILES))
    result = s.probe(probe_look(s, probe))
    match result.answer:
        case ProbeAnswer.OK:
            return write_files(at(s, FILES))
        case ProbeAnswer.FAILED:
            return s.fail(ErrorClass.PROBE_FAILED, f"not good when it was claimed: {result.message}")
        case ProbeAnswer.UNKNOWN:
            return claim_wait(s, f"not known: {result.message}")


def write_files(s: Snapshot) -> Plan:
    wants = claim_files(s)
    key = claim_directory(s)
    match s.observed(s.template.provider, key):
        case Present(facts=DirectoryFacts(files=files)):
            seen = dict(files)
        case _:
            return claim_wait(s, "its claim directory is not known")
    missing = tuple(want for want in wants if seen.get(want.name) != content_mark(want.content))
    if not missing:
        there = at(s, HOOK)
        if hook_look(s) is None:
            return put_to_use(there)
        return s.stay("what the claim brought is in place", "Claimed", wake_in=0.0, status=there.status)
    failure = s.failure(key)
    if failure is not None and not failure.retryable:
        return s.fail(
            ErrorClass(failure.error_class), f"what the claim brought could not be written: {failure.message}"
        )
    if s.now < s.status.retry_at:
        return claim_wait(s, "writing what the claim brought")
    actions: tuple[Action, ...] = tuple(Ensure(s.template.provider, key, want) for want in missing)
    status = msgspec.structs.replace(s.status, attempts=s.status.attempts + 1, retry_at=s.now + 0.2)
    return s.stay("writing what the claim brought", "Claimed", wake_in=0.0, status=status, actions=actions)


def run_hook(s: Snapshot) -> Plan:
    """Once it answered, well or not; only when the attempt itself could not be made is it made again."""
    look = hook_look(s)
    if look is None:
        return put_to_use(s)
    result = s.probe(look)
    match result.answer:
        case ProbeAnswer.OK:
            return put_to_use(at(s, DONE))
        case ProbeAnswer.FAILED:
            return s.fail(ErrorClass.CLAIM_HOOK_FAILED, f"its claim hook failed: {result.message}")
        case ProbeAnswer.UNKNOWN:
            return claim_wait(s, f"its claim hook could not be run: {result.message}")


def at(s: Snapshot, step: int) -> Snapshot:
    """As if that step of the claim had just begun: what need not wait is decided in one pass; each costs a commit."""
    status = msgspec.structs.replace(s.status, claim_step=step, attempts=0, retry_at=0.0, failing_since=0.0)
    return replace(s, status=status)


def claim_wait(s: Snapshot, why: str) -> Plan:
    """`failing_since` is when this step first had to wait: a warm member may be old when it is claimed."""
    since = s.status.failing_since or s.now
    if s.now - since > CLAIM_SECONDS:
        return s.fail(ErrorClass.PROVISION_TIMEOUT, f"its claim could not be applied: {why}")
    return s.stay(why, "Claimed", wake_in=0.05, status=msgspec.structs.replace(s.status, failing_since=since))


def warm_looks(s: Snapshot) -> tuple[Look, ...]:
    """Beside the process and its liveness: what the next step reads."""
    watch = readiness_watch(s)
    kept = () if watch is None else (watch,)  # also while it is claimed: begun anew, its first verdict would be news
    if s.spec.claim is None:
        return kept
    match s.status.claim_step:
        case 0:
            probe = readiness(s)
            directory = LookResource(s.template.provider, claim_directory(s))
            return (directory, *kept) if probe is None else (probe_look(s, probe), directory, *kept)
        case 1:
            return (LookResource(s.template.provider, claim_directory(s)), *kept)
        case 2:
            hook = hook_look(s)
            return kept if hook is None else (hook, *kept)
        case _:
            return kept


def readiness_watch(s: Snapshot) -> LookWatch | None:
    probe = s.template.readiness_probe
    return None if probe is None else LookWatch(READINESS, s.process_key, LOOPBACK, s.ports, probe)


def hook_look(s: Snapshot) -> LookProbe | None:
    hook = s.spec.claim.on_claim if s.spec.claim is not None else None
    if hook is None:
        return None
    return probe_look(s, Probe(http_get=hook.http_get, exec=hook.exec, timeout_seconds=hook.timeout_seconds))
