"""What a file turns into: manifests for the use cases, problems for the person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spinyard.core.ids import Digest
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

API_VERSION = "spinyard.dev/v1"

WrittenSpec = ServiceSpec | JobSpec | NamedTemplateSpec | WarmPoolSpec | ClaimSpec | SpinoutSpec

BYTES_MAX = 1 << 20
OBJECTS_MAX = 10_000
PROBLEMS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file or a body. `line` and `column` count from 1; 0: not known (API bodies).

    `code` is stable. `expected` and `suggestion` may be empty.
    """

    source: str
    line: int
    column: int
    path: str
    code: str
    message: str
    expected: str = ""
    suggestion: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        what = f"{self.path}: {self.message}" if self.path else self.message
        expected = f"; expected {self.expected}" if self.expected else ""
        suggestion = f" -> {self.suggestion}" if self.suggestion else ""
        return f"{place}: {what}{expected}{suggestion}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One checked object. `templates`: what must be stored for it, by digest. With `template_ref` set the digest in
    `spec` is still empty: whoever applies it looks the name up in the object's namespace. `body`: the object as it was
    written, as plain JSON, for whoever sends it on; relative paths are made absolute in it."""

    kind: Kind
    namespace: str
    name: str
    spec: WrittenSpec
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    templates: Mapping[Digest, TemplateSpec] = field(default_factory=dict)
    template_ref: str = ""
    source: str = ""
    line: int = 0
    body: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)
