"""A unit that takes requests and ends none.

Who still waits is in no counter of answers, and who went away before the answer never will be: so the success rate says
nothing of it. It is told by what is under way. It only ever fails, and only of a unit that answers nothing at all;
single requests that hang are failures when the route has a time limit, and nobody's without one.
"""

from __future__ import annotations

import msgspec

from spinyard.core.figures import Gate, Reading
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.verdict import Verdict
from spinyard.spinout.snapshot import SpinoutSnapshot
from spinyard.spinout.status import SpinoutStatus

ANSWERS = "answers"
STALLED_SECONDS = 10.0
TIMES_P99 = 10.0
"""or so many times what the parent's slowest needed before: long requests are no stall"""
BEGUN_MIN, BEGUN_ALONE_MIN = 5, 20
"""begun since the last answer, by what is under way: streams that stay open are no sign. More without a parent beside
it that shows that there is something to answer."""
EXPECTED_MIN = 20.0
"""answers that the unit would have given meanwhile, by the parent's"""


def with_stall(status: SpinoutStatus, before: Reading, reading: Reading) -> SpinoutStatus:
    """The status that remembers the last reading before the unit fell silent, both at one weight."""
    known = status.stalled
    if known is not None and (known.epoch, known.serial) != (reading.epoch, reading.serial):
        known = None
    base = known or before
    is_silent = status.weight > 0 and reading.new.requests == base.new.requests and reading.new.active > 0
    stalled = base if is_silent else None
    return status if stalled == status.stalled else msgspec.structs.replace(status, stalled=stalled)


def stalled_gates(s: SpinoutSnapshot, status: SpinoutStatus) -> list[Gate]:
    """Only said when it is so."""
    begun, reading = status.stalled, status.reading
    if begun is None or reading is None or status.blind_since:
        return []
    if (begun.epoch, begun.serial) != (reading.epoch, reading.serial) or s.now - begun.at < patience(status):
        return []
    more = reading.new.active - begun.new.active
    if status.weight < WEIGHT_ALL:
        answered = reading.old.requests - begun.old.requests
        is_sure = more >= BEGUN_MIN and answered * status.weight / (WEIGHT_ALL - status.weight) >= EXPECTED_MIN
        meanwhile = f"; {s.spec.parent} gave {answered} meanwhile"
    else:
        is_sure, meanwhile = more >= BEGUN_ALONE_MIN, ""
    if not is_sure:
        return []
    limit = patience(status)
    why = f"no answer from {s.spec.unit} for {limit:g} s, with {reading.new.active} requests under way{meanwhile}"
    return [Gate(ANSWERS, str(Verdict.FAIL), why, limit=limit)]


def patience(status: SpinoutStatus) -> float:
    before = status.baseline.p99 if status.baseline is not None else None
    return max(STALLED_SECONDS, round(TIMES_P99 * (before or 0.0), 1))
