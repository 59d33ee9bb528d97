"""The published form of Job: of a template, or a command on a member of a pool."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from spinyard.core.spec import JobSpec
from spinyard.manifest.fields import Duration, Label, Text
from spinyard.manifest.pool_shapes import FILES_MAX, FileShape, Variables
from spinyard.manifest.shapes import ObjectShape, WorkShape

Words = Annotated[list[Text], Field(max_length=1000)]


class JobSpecShape(WorkShape):
    retries: int = Field(default=JobSpec().retries, ge=0, le=1000, description="New attempts after a failure.")
    timeout_seconds: Annotated[Duration, Field(ge=0.1)] = Field(
        default=JobSpec().timeout_seconds, description="An attempt that takes longer is killed and has failed."
    )
    pool: Label | None = Field(
        default=None, description="A WarmPool of this namespace: the command runs on one of its members."
    )
    command: Words = Field(default_factory=list, description="With pool: the program and its arguments.")
    args: Words = Field(default_factory=list, description="With pool: more arguments.")
    env: Variables = Field(
        default_factory=list, description="With pool: variables of the command, in claim.json too: a list, or a map."
    )
    files: Annotated[list[FileShape], Field(max_length=FILES_MAX)] = Field(
        default_factory=list, description="With pool: files in SPINYARD_CLAIM_DIR."
    )


class JobShape(ObjectShape):
    """A program that runs to its end."""

    kind: Literal["Job"] = Field(description="Job")
    spec: JobSpecShape = Field(description="What is wanted.")
