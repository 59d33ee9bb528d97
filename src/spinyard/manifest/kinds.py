"""The kinds that may stand in a file, each with its shape."""

from __future__ import annotations

from spinyard.manifest.job_shapes import JobShape
from spinyard.manifest.pool_shapes import ClaimShape, WarmPoolShape
from spinyard.manifest.shapes import ServiceShape, TemplateObjectShape
from spinyard.manifest.spinout_shapes import SpinoutShape

AnyShape = ServiceShape | JobShape | TemplateObjectShape | WarmPoolShape | ClaimShape | SpinoutShape

SHAPES: dict[str, type[AnyShape]] = {
    "Service": ServiceShape,
    "Job": JobShape,
    "Template": TemplateObjectShape,
    "WarmPool": WarmPoolShape,
    "Claim": ClaimShape,
    "Spinout": SpinoutShape,
}
