"""The published form of WarmPool and Claim."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from spinyard.core.spec import OnClaim, WarmPoolSpec
from spinyard.manifest.fields import Cron, Duration, FileName, HostName, Label, PortReference, Text, Variable
from spinyard.manifest.shape import Shape
from spinyard.manifest.shapes import ExecShape, HttpGetShape, ObjectShape, TemplateRefShape, TemplateShape

_POOL = WarmPoolSpec()

MEMBERS_MAX = 10_000
FILES_MAX = 32

Count = Annotated[int, Field(ge=0, le=MEMBERS_MAX)]
Maximum = Annotated[int, Field(ge=1, le=MEMBERS_MAX)]


class WindowShape(Shape):
    cron: Cron = Field(description="When it opens: five fields, UTC, such as 0 8 * * 1-5.")
    duration: Annotated[Duration, Field(ge=1)] = Field(description="How long it stays open.")
    min: Count = Field(description="Members kept warm while it is open.")
    max: Maximum = Field(description="Members and claimed instances together while it is open.")


class OnClaimShape(Shape):
    exec: ExecShape | None = Field(default=None, description="Run in the member; must exit with 0.")
    http_get: HttpGetShape | None = Field(default=None, description="Asked of the member; must answer 200 to 399.")
    timeout_seconds: Annotated[Duration, Field(ge=0.01, le=600)] = Field(
        default=OnClaim().timeout_seconds, description="Silence for this long is a failure."
    )


class WarmPoolSpecShape(Shape):
    owner: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Who answers for it: a team or person."
    )
    template: TemplateShape | None = Field(default=None, description="How a member is made.")
    template_ref: TemplateRefShape | None = Field(default=None, description="A Template by name, instead of template.")
    min: Count = Field(default=_POOL.min, description="Members kept warm.")
    max: Maximum = Field(default=_POOL.max, description="Members and claimed instances together.")
    schedule: Annotated[list[WindowShape], Field(max_length=64)] = Field(
        default_factory=list, description="Other bounds at certain times."
    )
    max_idle: Duration | None = Field(
        default=None, description="Members above min go when nobody has claimed them for so long; default: at once."
    )
    freshness: Annotated[Duration, Field(ge=1)] | None = Field(
        default=None, description="A member that is older is replaced; default: never."
    )
    update_strategy: Literal["Recreate", "OnDelete"] = Field(
        default="Recreate",
        description="Members of an older template: Recreate replaces them, OnDelete leaves them. Neither is claimed.",
    )
    host_suffix: HostName | None = Field(
        default=None, description="A claim is reached under <claim>.<hostSuffix>; default: only by its port."
    )
    port: PortReference = Field(default="", description="Name (or fixed number) of a port; default: the first.")
    on_claim: OnClaimShape | None = Field(
        default=None, description="Done in a member when it is claimed, before anything is routed to it."
    )


class VariableShape(Shape):
    name: Variable = Field(description="Name of the variable.")
    value: Text = Field(default="", description="Its text. Quote numbers.")


class FileShape(Shape):
    name: FileName = Field(description="Name of the file in SPINYARD_CLAIM_DIR.")
    content: Text = Field(default="", description="Its text.")


def _listed(value: object) -> object:
    """`{NAME: text}` is the same as a list of names and values."""
    return [{"name": name, "value": text} for name, text in value.items()] if isinstance(value, dict) else value


Variables = Annotated[list[VariableShape], Field(max_length=1000), BeforeValidator(_listed)]


class ClaimSpecShape(Shape):
    owner: Annotated[str, Field(max_length=253)] = Field(
        default="", description="Who answers for it: a team or person."
    )
    pool: Label = Field(description="Name of a WarmPool in the same namespace.")
    env: Variables = Field(default_factory=list, description="What the member finds in claim.json: a list, or a map.")
    files: Annotated[list[FileShape], Field(max_length=FILES_MAX)] = Field(
        default_factory=list, description="Files that the member finds in SPINYARD_CLAIM_DIR."
    )
    ttl: Annotated[Duration, Field(gt=0)] | None = Field(
        default=None, description="Released by itself after this time; default: never. Can be renewed."
    )
    wait: Annotated[Duration, Field(le=86400)] = Field(
        default=0.0, description="How long it may wait while the pool is at its maximum; 0: not at all."
    )


class WarmPoolShape(ObjectShape):
    """Instances that are there before anyone asks for one."""

    kind: Literal["WarmPool"] = Field(description="WarmPool")
    spec: WarmPoolSpecShape = Field(description="What is wanted.")


class ClaimShape(ObjectShape):
    """One member of a WarmPool, for as long as it is needed."""

    kind: Literal["Claim"] = Field(description="Claim")
    spec: ClaimSpecShape = Field(description="What is wanted.")
