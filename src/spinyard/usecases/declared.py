"""What a person declared: one object of a file or of a request, already checked and in core words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spinyard.core.spec import (
    ClaimSpec,
    JobSpec,
    Kind,
    NamedTemplateSpec,
    ServiceSpec,
    TemplateSpec,
    WarmPoolSpec,
)
from spinyard.core.spinout import SpinoutSpec

APPLIED_SET = "spinyard.dev/applied-set"
OWN_PREFIX = "spinyard.dev/"

DeclaredSpec = ServiceSpec | JobSpec | NamedTemplateSpec | WarmPoolSpec | ClaimSpec | SpinoutSpec


@dataclass(frozen=True, slots=True)
class Declared:
    """`template` is the inline one (for kind Template: its content); it is None with a template_ref and for an external
    Service. `spec.template_digest` may be empty: it is filled in here."""

    kind: Kind
    namespace: str
    name: str
    spec: DeclaredSpec
    template: TemplateSpec | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> ObjectId:
        return ObjectId(self.kind, self.namespace, self.name)


@dataclass(frozen=True, slots=True, order=True)
class ObjectId:
    kind: Kind
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"

    @property
    def path(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
