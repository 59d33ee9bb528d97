"""Names and times as published: keys in camelCase, RFC 3339."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

NAMES_AS_KEYS = frozenset({"ports"})
"""status fields whose keys are names that users chose: left as they are"""


def camel(value: Any) -> Any:
    """Keys in camelCase, numbers in `*_at` and `since` fields as times."""
    if isinstance(value, Mapping):
        return {_camel_key(str(k)): _camel_value(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [camel(v) for v in value]
    return value


def time_text(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(max(0.0, min(seconds, 253402300799.0)), UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _camel_key(key: str) -> str:
    if key == "last_transition_at":
        return "lastTransitionTime"
    return re.sub(r"_([a-z0-9])", lambda m: m.group(1).upper(), key)


def _camel_value(key: str, value: Any) -> Any:
    if key in NAMES_AS_KEYS:
        return value
    is_time = key.endswith("_at") or key in ("since", "failing_since")
    if is_time and isinstance(value, int | float) and not isinstance(value, bool):
        return time_text(value) if value else None
    return camel(value)
