"""The published form of Spinout. Weights, margins and shares are in percent, 0 to 100."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from spinyard.core.route_path import PATH_CHARACTERS_MAX, SEGMENTS_MAX, is_segment
from spinyard.core.spinout import Objective, Shadow, SpinoutGates, SpinoutSpec, ThresholdGate
from spinyard.manifest.fields import CookieName, Duration, HeaderName, Label, Pause, Percent, SomeText, UrlPath
from spinyard.manifest.rollout_shapes import KEY_LENGTH_MAX, STEPS_MAX
from spinyard.manifest.scalars import Bad, shown
from spinyard.manifest.shape import Shape
from spinyard.manifest.shapes import ObjectShape

_SPINOUT = SpinoutSpec(parent="", unit="", routes=())
_GATES = SpinoutGates()
_SHADOW = Shadow()
_OBJECTIVE = Objective(target=0.5)
_THRESHOLD = ThresholdGate(name="", url="", query="", limit=0.0)

ROUTES_MAX = 64
LATENCY_MAX = 8
THRESHOLDS_MAX = 16
NAMES_MAX = 100
CONTRACT_BYTES_MAX = 256 * 1024
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")

_PATH_HINT = 'a path such as "/thumbs", "/photos/{id}/thumb" or "/thumbs/*"'


def route_path(value: str) -> str:
    """Exact, with whole segments in braces, or with `/*` at the end."""
    *middle, last = value.split("/")[1:]
    if len(middle) >= SEGMENTS_MAX:
        raise Bad("invalid_path", f"{shown(value)} has more than {SEGMENTS_MAX} segments", _PATH_HINT)
    for segment in (*middle, *((last,) if last not in ("", "*") else ())):
        if not is_segment(segment):
            raise Bad(
                "invalid_path", f"{shown(value)} has the segment {shown(segment)}", _PATH_HINT, _path_tip(segment)
            )
    return value


def _path_tip(segment: str) -> str:
    if segment == "*":
        return "* stands at the end only; in the middle write {id}"
    if "{" in segment:
        return "a part in braces is a whole segment: /photos/{id}"
    if "?" in segment:
        return "a route has no query"
    return ""


def route_of_text(value: object) -> object:
    """`GET /photos/{id}/thumb`, or a path alone: any method."""
    if not isinstance(value, str):
        return value
    words = value.split()
    if len(words) == 1 and words[0].startswith("/"):
        return {"path": words[0]}
    if len(words) == 2 and words[0].upper() in METHODS:
        return {"method": words[0].upper(), "path": words[1]}
    expected = 'a method and a path, such as "GET /photos/{id}/thumb"'
    raise Bad("invalid_route", f"{shown(value)} is not a route", expected, "one of " + ", ".join(METHODS))


def http_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@]+(?:/[^\s?#]*)?", value):
        expected = 'a URL such as "http://127.0.0.1:9090", without user, query or fragment'
        raise Bad("invalid_url", f"{shown(value)} is not such a URL", expected)
    return value


class BoundaryRouteShape(Shape):
    method: Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] | None = Field(
        default=None, description="Default: any method."
    )
    path: Annotated[UrlPath, AfterValidator(route_path), Field(max_length=PATH_CHARACTERS_MAX)] = Field(
        description='Exact, with parts ("/photos/{id}/thumb"), or "/thumbs/*" for everything under it.'
    )
    writes: Annotated[list[Label], Field(max_length=NAMES_MAX)] = Field(
        default_factory=list, description="Entities that such a request writes."
    )


BoundaryRoutes = Annotated[
    list[Annotated[BoundaryRouteShape, BeforeValidator(route_of_text)]], Field(min_length=1, max_length=ROUTES_MAX)
]


class BoundaryShape(Shape):
    routes: BoundaryRoutes = Field(description="Which requests of the parent are carried over.")
    forward_to_owner: bool = Field(
        default=_SPINOUT.forward_to_owner,
        description="The unit hands writes to the parent: so routes that write may have a weight.",
    )


class ContractShape(Shape):
    file: SomeText | None = Field(
        default=None, description="An OpenAPI document (3.0 or 3.1), read by the command line and sent along."
    )
    text: Annotated[str, Field(max_length=CONTRACT_BYTES_MAX)] | None = Field(
        default=None, description="The document itself, as JSON or YAML text."
    )


class KeyShape(Shape):
    header: Annotated[HeaderName, Field(max_length=KEY_LENGTH_MAX)] | None = Field(
        default=None, description="Requests with the same value of it stay on one side."
    )
    cookie: Annotated[CookieName, Field(max_length=KEY_LENGTH_MAX)] | None = Field(
        default=None, description="Requests with the same value of it stay on one side."
    )
    client_address: Literal[True] | None = Field(default=None, description="Requests of one address stay together.")
    no_key: Literal["parent", "any"] = Field(
        default="parent", description="Where a request without the header or cookie goes: to the parent, or to any."
    )


class SpinoutStepShape(Shape):
    weight: Percent = Field(description="Percent of the requests of the boundary that go to the unit.")
    pause: Pause = Field(
        default=0.0, description="Stay at least so long; true: until a person says `spinyard spinout promote`."
    )


class SuccessShape(Shape):
    margin: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=_GATES.margin * 100, description="By how many points more of the unit's requests may fail."
    )
    alpha: Annotated[float, Field(ge=0.0001, le=0.5)] = Field(
        default=_GATES.alpha, description="How often a verdict of any gate may be wrong, pass and fail each."
    )


class LatencyGoalShape(Shape):
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(description="Which one: 0.95 for the 95th percentile.")
    max_ratio: Annotated[float, Field(ge=1, le=1000)] | None = Field(
        default=None, description="The unit's may not be above so many times the parent's (plus `plus`)."
    )
    plus: Annotated[Duration, Field(le=3600)] = Field(
        default=0.0, description="And so much longer: for parents that answer at once."
    )
    max: Annotated[Duration, Field(gt=0, le=3600)] | None = Field(
        default=None, description="Nor above this, whatever the parent's is; holds at full weight too."
    )


class ObjectiveShape(Shape):
    target: Annotated[float, Field(gt=0, lt=100)] = Field(description="Percent of the requests that must be good.")
    window: Annotated[Duration, Field(ge=60)] = Field(
        default=_OBJECTIVE.window_seconds, description="Over which time; its burn rate is watched in parts of it."
    )
    min_events: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=_OBJECTIVE.events_min, description="With fewer requests nothing is said."
    )
    min_errors: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=_OBJECTIVE.errors_min, description="With fewer bad requests neither."
    )


class TraceJoinShape(Shape):
    min: Annotated[float, Field(gt=0, le=100)] = Field(
        description="Percent of the unit's requests whose trace must be whole."
    )


class PrometheusShape(Shape):
    url: Annotated[str, AfterValidator(http_url), Field(max_length=2048)] = Field(
        description="Of a Prometheus HTTP API, such as http://127.0.0.1:9090."
    )
    query: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="An instant query whose answer is one sample."
    )


class ThresholdShape(Shape):
    name: Label = Field(description="How it is called in verdicts.")
    prometheus: PrometheusShape = Field(description="Where the figure comes from.")
    max: float | None = Field(default=None, description="Above it the gate fails.")
    min: float | None = Field(default=None, description="Below it the gate fails.")
    stale: Annotated[Duration, Field(ge=1, le=86400)] = Field(
        default=_THRESHOLD.stale_seconds, description="An older sample is missing data."
    )


class GatesShape(Shape):
    success: SuccessShape = Field(default_factory=SuccessShape, description="The unit's success rate by the parent's.")
    latency: Annotated[list[LatencyGoalShape], Field(max_length=LATENCY_MAX)] = Field(
        default_factory=list, description="The unit's latency by the parent's, or by fixed limits."
    )
    objective: ObjectiveShape | None = Field(default=None, description="A declared objective and its burn rate.")
    trace_join: TraceJoinShape | None = Field(default=None, description="That traces go on over the boundary.")
    thresholds: Annotated[list[ThresholdShape], Field(max_length=THRESHOLDS_MAX)] = Field(
        default_factory=list, description="Figures from elsewhere."
    )


class ShadowShape(Shape):
    enabled: bool = Field(default=_SHADOW.enabled, description="false: nothing is copied.")
    share: Percent = Field(
        default=_SHADOW.share / 100, description="Percent of the safe requests that are copied to the unit."
    )
    min_compared: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=_SHADOW.compared_min, description="So many answers must have been compared."
    )
    max_different: Annotated[float, Field(ge=0, lt=100)] = Field(
        default=_SHADOW.different_max * 100, description="Percent of them that may differ beyond the learned noise."
    )
    ignore: Annotated[list[SomeText], Field(max_length=NAMES_MAX)] = Field(
        default_factory=list, description="Fields and headers that may differ."
    )
    unordered: Annotated[list[SomeText], Field(max_length=NAMES_MAX)] = Field(
        default_factory=list, description="Lists whose order does not matter."
    )
    redact: Annotated[list[SomeText], Field(max_length=NAMES_MAX)] = Field(
        default_factory=list, description="Fields whose values are never stored."
    )


def _switched(value: object) -> object:
    """`shadow: true` is all defaults, `shadow: false` none at all."""
    return {"enabled": value} if isinstance(value, bool) else value


class BaselineShape(Shape):
    duration: Annotated[Duration, Field(ge=0.1, le=30 * 86400)] = Field(
        default=_SPINOUT.baseline_seconds, description="The parent alone is measured for at least so long."
    )
    min_requests: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        default=_SPINOUT.baseline_requests, description="And until so many requests were counted."
    )


class SpinoutSpecShape(Shape):
    parent: Label = Field(description="The Service that has the responsibility now; it may be external.")
    unit: Label = Field(description="The Service that is to have it.")
    owner: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Who answers for it: a team or person."
    )
    escalation: Annotated[str, Field(max_length=1000)] = Field(
        default="", description="Who is called when it cannot go back by itself."
    )
    objective: Annotated[str, Field(max_length=4000)] = Field(default="", description="What it is for, in words.")
    boundary: BoundaryShape = Field(description="What is carried over.")
    contract: ContractShape | None = Field(default=None, description="What both sides answer alike.")
    key: KeyShape | None = Field(
        default=None, description="What decides the side of a request; default: each request on its own."
    )
    steps: Annotated[list[SpinoutStepShape], Field(min_length=1, max_length=STEPS_MAX)] | None = Field(
        default=None, description="Rising, the last one 100; default 10, 50, 100."
    )
    gates: GatesShape = Field(default_factory=GatesShape, description="What the unit is judged by at every step.")
    shadow: Annotated[ShadowShape, BeforeValidator(_switched)] = Field(
        default_factory=ShadowShape, description="Safe requests are copied to the unit and compared; false: not."
    )
    baseline: BaselineShape = Field(default_factory=BaselineShape, description="The parent, before anything moves.")
    soak: Duration = Field(
        default=_SPINOUT.soak_seconds, description="At 100, before the parent may give up the room it has kept."
    )
    inconclusive: Literal["hold", "abort"] = Field(
        default="hold", description="When a phase is not decided by its deadline: stay and say so, or go back."
    )
    deadline: Annotated[Duration, Field(ge=1)] = Field(
        default=_SPINOUT.deadline_seconds, description="Of every phase that waits for evidence."
    )
    abort_deadline: Annotated[Duration, Field(ge=1, le=86400)] = Field(
        default=_SPINOUT.abort_deadline_seconds, description="To be at 0 % again; else it pages."
    )


class SpinoutShape(ObjectShape):
    """A responsibility that leaves its parent."""

    kind: Literal["Spinout"] = Field(description="Spinout")
    spec: SpinoutSpecShape = Field(description="What is wanted.")
