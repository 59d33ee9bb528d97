"""What the unit did lately, at full weight.

Over all that it answered there, a day without an error outweighs an hour of them: so it is also judged by a stretch of
its last requests alone, which begins anew when it is long enough. A stretch only ever fails, and with a smaller share
of error each, because there are many of them.
"""

from __future__ import annotations

import math

import msgspec

from spinyard.core.figures import Reading, since
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.verdict import Counts
from spinyard.spinout.status import SpinoutStatus

REQUESTS_MIN, PER_MARGIN = 200, 20.0
"""of a stretch: the smaller the margin, the more it takes to see that it is passed"""
ALPHA_PART = 0.1
NONE = Counts()


def requests_of(margin: float) -> int:
    return max(REQUESTS_MIN, math.ceil(PER_MARGIN / margin))


def with_lately(status: SpinoutStatus, before: Reading, reading: Reading, margin: float) -> SpinoutStatus:
    """`before`: the reading that was judged last. What it showed may be left behind, what is new may not."""
    if status.weight < WEIGHT_ALL:
        return status
    known = status.lately
    is_other = known is None or (known.epoch, known.serial) != (reading.epoch, reading.serial)
    if known is None or is_other or before.new.requests - known.new.requests >= requests_of(margin):
        return msgspec.structs.replace(status, lately=before)
    return status


def lately(status: SpinoutStatus) -> Counts:
    base, reading = status.lately, status.reading
    if base is None or reading is None or (base.epoch, base.serial) != (reading.epoch, reading.serial):
        return NONE
    return since(base.new, reading.new)
