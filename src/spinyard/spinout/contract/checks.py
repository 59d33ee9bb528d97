"""The ids of all findings, and how bad each is. An id never changes its meaning once published; new ones may come.

Whoever sends (in requests the caller, in responses the unit) may send less than before; whoever receives must take all
that it took. So what narrows a schema breaks requests, and what widens it breaks responses; the table below is that
rule spelled out, with the places where custom is stricter or milder than sets are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from spinyard.spinout.contract.finding import Severity


class Direction(StrEnum):
    REQUEST = "request"
    RESPONSE = "response"


class Way(StrEnum):
    """What a change does to the set of values that are allowed."""

    NARROWS = "narrows"
    WIDENS = "widens"
    BOTH = "both"


_BREAKS: Final = {Direction.REQUEST: Way.NARROWS, Direction.RESPONSE: Way.WIDENS}

# In a schema: id after `request-` or `response-`, and what it does.
_IN_SCHEMAS: Final = {
    **{f"{word}-tightened": Way.NARROWS for word in ("minimum", "min-length", "min-items", "min-properties")},
    **{f"{word}-tightened": Way.NARROWS for word in ("maximum", "max-length", "max-items", "max-properties")},
    **{f"{word}-loosened": Way.WIDENS for word in ("minimum", "min-length", "min-items", "min-properties")},
    **{f"{word}-loosened": Way.WIDENS for word in ("maximum", "max-length", "max-items", "max-properties")},
    "type-narrowed": Way.NARROWS,
    "type-widened": Way.WIDENS,
    "type-changed": Way.BOTH,
    "format-added": Way.NARROWS,
    "format-removed": Way.WIDENS,
    "format-changed": Way.BOTH,
    "pattern-added": Way.NARROWS,
    "pattern-removed": Way.WIDENS,
    "pattern-changed": Way.BOTH,
    "multiple-of-tightened": Way.NARROWS,
    "multiple-of-loosened": Way.WIDENS,
    "multiple-of-changed": Way.BOTH,
    "unique-items-added": Way.NARROWS,
    "unique-items-removed": Way.WIDENS,
    "enum-added": Way.NARROWS,
    "enum-removed": Way.WIDENS,
    "enum-value-removed": Way.NARROWS,
    "enum-value-added": Way.WIDENS,
    "became-not-nullable": Way.NARROWS,
    "became-nullable": Way.WIDENS,
    "property-became-required": Way.NARROWS,
    "property-became-optional": Way.WIDENS,
    "additional-properties-closed": Way.NARROWS,
    "additional-properties-opened": Way.WIDENS,
    "items-limited": Way.NARROWS,
    "items-unlimited": Way.WIDENS,
    "alternative-removed": Way.NARROWS,
    "alternative-added": Way.WIDENS,
    "keyword-changed": Way.BOTH,
}

_OTHERS: Final = {
    # Properties that come and go: read by their names, not as sets.
    "request-required-property-added": Severity.BREAKING,
    "request-property-added": Severity.SAFE,
    "request-property-removed": Severity.NOTE,
    "request-property-refused": Severity.BREAKING,
    "request-default-changed": Severity.NOTE,
    "response-required-property-removed": Severity.BREAKING,
    "response-property-removed": Severity.BREAKING,
    "response-property-added": Severity.SAFE,
    "response-property-added-to-closed-object": Severity.BREAKING,
    "response-default-changed": Severity.NOTE,
    # Operations.
    "path-removed": Severity.BREAKING,
    "path-added": Severity.SAFE,
    "method-removed": Severity.BREAKING,
    "method-added": Severity.SAFE,
    "operation-deprecated": Severity.NOTE,
    "operation-id-changed": Severity.NOTE,
    "not-compared": Severity.NOTE,
    # Parameters and bodies of requests.
    "request-required-parameter-added": Severity.BREAKING,
    "request-parameter-added": Severity.SAFE,
    "request-parameter-removed": Severity.NOTE,
    "request-parameter-became-required": Severity.BREAKING,
    "request-parameter-became-optional": Severity.SAFE,
    "request-parameter-style-changed": Severity.BREAKING,
    "request-required-body-added": Severity.BREAKING,
    "request-body-added": Severity.SAFE,
    "request-body-removed": Severity.BREAKING,
    "request-body-became-required": Severity.BREAKING,
    "request-body-became-optional": Severity.SAFE,
    "request-media-type-removed": Severity.BREAKING,
    "request-media-type-added": Severity.SAFE,
    # Answers.
    "response-status-removed": Severity.BREAKING,
    "response-status-added": Severity.NOTE,
    "response-error-status-removed": Severity.BREAKING,
    "response-error-status-added": Severity.SAFE,
    "response-media-type-removed": Severity.BREAKING,
    "response-media-type-added": Severity.SAFE,
    "response-header-removed": Severity.BREAKING,
    "response-header-added": Severity.SAFE,
    "response-header-became-optional": Severity.BREAKING,
    "response-header-became-required": Severity.SAFE,
    # Who may call.
    "security-added": Severity.BREAKING,
    "security-tightened": Severity.BREAKING,
    "security-loosened": Severity.NOTE,
}


def _severity(direction: Direction, way: Way) -> Severity:
    return Severity.BREAKING if way in (_BREAKS[direction], Way.BOTH) else Severity.SAFE


CHECKS: Final[dict[str, Severity]] = {
    **{f"{side}-{name}": _severity(side, way) for name, way in _IN_SCHEMAS.items() for side in Direction},
    **_OTHERS,
}
