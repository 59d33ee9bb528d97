"""The published form of `spec.rollout` of a Service. Weights, the margin and a rate are in percent, 0 to 100."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spinyard.core.spec import Analysis, LatencyLimit, RolloutStrategy
from spinyard.manifest.fields import CookieName, Duration, HeaderName, Pause, Percent
from spinyard.manifest.shape import Shape

_STRATEGY = RolloutStrategy()
_ANALYSIS = Analysis()
_LATENCY = LatencyLimit(quantile=0.5)

STEPS_MAX = 64
LIMITS_MAX = 16
KEY_LENGTH_MAX = 200

_Header = Annotated[HeaderName, Field(max_length=KEY_LENGTH_MAX)]
_Cookie = Annotated[CookieName, Field(max_length=KEY_LENGTH_MAX)]


class RolloutStepShape(Shape):
    weight: Percent = Field(description="Percent of the requests that go to the new version.")
    pause: Pause = Field(
        default=0.0, description="Stay at least so long; true: until a person says `spinyard rollout promote`."
    )


class LatencyLimitShape(Shape):
    quantile: Annotated[float, Field(gt=0, lt=1)] = Field(description="Which one: 0.95 for the 95th percentile.")
    max: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="The new version's may not be above it."
    )
    max_ratio: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="Nor above so many times the old version's."
    )
    min_requests: Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        default=_LATENCY.min_requests, description="Before so many requests of a side it says nothing."
    )


class GaugeLimitShape(Shape):
    name: Literal["activeRequests", "failedStarts", "failureRate"] = Field(
        description="activeRequests: under way, for each new instance. failedStarts: new instances that failed."
        " failureRate: percent of the new version's requests of this step that failed, after the first 50."
    )
    max: Annotated[float, Field(ge=0, le=1_000_000)] = Field(description="Above it the rollout goes back.")


class AnalysisShape(Shape):
    enabled: bool = Field(default=_ANALYSIS.enabled, description="false: time and people alone decide.")
    margin: Annotated[float, Field(gt=0, lt=100)] = Field(
        default=_ANALYSIS.margin * 100, description="By how many points more of the new version's requests may fail."
    )
    alpha: Annotated[float, Field(ge=0.0001, le=0.5)] = Field(
        default=_ANALYSIS.alpha, description="How often a verdict may be wrong, pass and fail each."
    )
    latency: Annotated[list[LatencyLimitShape], Field(max_length=LIMITS_MAX)] = Field(
        default_factory=list, description="Limits of the new version's latency."
    )
    gauges: Annotated[list[GaugeLimitShape], Field(max_length=LIMITS_MAX)] = Field(
        default_factory=list, description="Limits of other figures of the new version."
    )


class StickyShape(Shape):
    header: _Header | None = Field(default=None, description="Requests with the same value of it stay together.")
    cookie: _Cookie | None = Field(default=None, description="Requests with the same value of it stay together.")
    client_address: Literal[True] | None = Field(default=None, description="Requests of one address stay together.")
    no_key: Literal["old", "any"] = Field(
        default="old", description="Where a request without the header or cookie goes: to the old version, or to any."
    )


class RolloutShape(Shape):
    type: Literal["canary", "blueGreen"] = Field(
        default="canary", description="canary: step by step. blueGreen: at once, when all new instances are up."
    )
    steps: Annotated[list[RolloutStepShape], Field(min_length=1, max_length=STEPS_MAX)] | None = Field(
        default=None, description="Rising, the last one 100; default of canary: 10, 50, 100, of blueGreen: 100."
    )
    analysis: AnalysisShape = Field(default_factory=AnalysisShape, description="What the two versions are judged by.")
    sticky: StickyShape | None = Field(
        default=None, description="What decides the version of a request; default: each request on its own."
    )
    ready_deadline: Annotated[Duration, Field(ge=0.1, le=86400)] = Field(
        default=_STRATEGY.ready_deadline_seconds,
        description="It goes back when not one more new instance is in traffic for so long.",
    )
    soak: Duration | None = Field(
        default=None,
        description="At 100, before the old instances go; default of canary: 0, of blueGreen: 60 s.",
    )
