"""What the unit did lately, at full weight.

Over all that it answered there, a day without an error outweighs an hour of them: so it is also judged by a stretch of
its last requests alone, which begins anew when it has passed. A stretch only ever fails, and with a smaller share of
error each, because there are many of them (core.verdict.alone).
"""

from __future__ import annotations

import msgspec

from spinyard.core.figures import Reading, stretch_counts, stretch_from
from spinyard.core.shift import WEIGHT_ALL
from spinyard.core.verdict import Counts
from spinyard.spinout.status import SpinoutStatus


def with_lately(
    status: SpinoutStatus, before: Reading, reading: Reading, *, limit: float, alpha: float
) -> SpinoutStatus:
    """`before`: the reading that was judged last."""
    if status.weight < WEIGHT_ALL:
        return status
    begun = stretch_from(status.lately, before, reading, limit=limit, alpha=alpha)
    if begun == status.lately:
        return status
    return msgspec.structs.replace(status, lately=begun, stretches=status.stretches + 1)


def lately(status: SpinoutStatus) -> Counts:
    return stretch_counts(status.lately, status.reading)
