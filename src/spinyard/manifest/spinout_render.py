"""A Spinout's spec as a person writes it."""

from __future__ import annotations

from typing import Any

from spinyard.core.spinout import SpinoutSpec


def spinout_fields(spec: SpinoutSpec) -> dict[str, Any]:
    return {"parent": spec.parent, "unit": spec.unit, "owner": spec.owner}
