"""What was declared of a Spinout, named by its content: every record of its history says under which it happened."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import msgspec

from spinyard.core.spinout import SpinoutSpec


def config_digest(spec: SpinoutSpec) -> str:
    """`sha256:` and 16 hex digits. What people did with the verbs does not count."""
    declared = replace(
        spec, approvals=(), started=0, promoted=0, promoted_fully=False, abort="", jwks="", capacity_floor=0
    )
    return "sha256:" + hashlib.sha256(msgspec.json.encode(declared, order="sorted")).hexdigest()[:16]
