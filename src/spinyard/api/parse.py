"""Requests to core words: manifests, tokens, headers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from spinyard.core.spec import Kind
from spinyard.errors import InvalidInput
from spinyard.manifest import Manifest, Problem, from_json
from spinyard.usecases.declared import Declared, ObjectId

KEY_CHARACTERS_MAX = 200
ACTOR_CHARACTERS_MAX = 200
WHOLE_COMMIT = 2**31 - 1
KINDS: Mapping[str, Kind] = {
    "services": Kind.SERVICE,
    "jobs": Kind.JOB,
    "templates": Kind.TEMPLATE,
    "spins": Kind.SPIN,
    "warmpools": Kind.WARM_POOL,
    "claims": Kind.CLAIM,
    "rollouts": Kind.ROLLOUT,
    "spinouts": Kind.SPINOUT,
}


def parse_objects(objects: Sequence[Any]) -> tuple[Declared, ...]:
    """Raises InvalidInput (invalid_manifest) with every problem of every object."""
    manifests, problems = from_json({"kind": "List", "items": list(objects)}, "request")
    if problems:
        raise invalid_manifest(problems)
    return tuple(declared_of(m) for m in manifests)


def parse_object(body: Any, id: ObjectId) -> Declared:
    """One object, whose kind, name and namespace are those of the path, or left out."""
    if not isinstance(body, dict):
        raise InvalidInput(
            "The body must be one object.", code="invalid_manifest", next_step="Send the object as JSON."
        )
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, dict):
        metadata = {"name": metadata}
    placed = {
        "apiVersion": "spinyard.dev/v1",
        "kind": str(id.kind),
        **{k: v for k, v in body.items() if v is not None},
        "metadata": {
            "namespace": id.namespace,
            "name": id.name,
            **{k: v for k, v in metadata.items() if v is not None},
        },
    }
    manifests, problems = from_json(placed, "request")
    if problems:
        raise invalid_manifest(problems)
    declared = declared_of(manifests[0])
    if declared.id != id:
        raise InvalidInput(
            f"The path names {id}, the body {declared.id}.",
            next_step="Send the object to its own path, or leave kind, name and namespace out of the body.",
        )
    return declared


def declared_of(manifest: Manifest) -> Declared:
    return Declared(
        kind=manifest.kind,
        namespace=manifest.namespace,
        name=manifest.name,
        spec=manifest.spec,
        template=next(iter(manifest.templates.values()), None),
        labels=manifest.labels,
        annotations=manifest.annotations,
    )


def invalid_manifest(problems: Sequence[Problem]) -> InvalidInput:
    entries = [
        {
            "path": p.path,
            "line": p.line or None,
            "code": p.code,
            "message": p.message,
            "expected": p.expected,
            "suggestion": p.suggestion,
        }
        for p in problems[:200]
    ]
    first = problems[0]
    more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
    return InvalidInput(
        (f"{first.path}: {first.message}" if first.path else first.message) + more,
        code="invalid_manifest",
        next_step=first.suggestion or "Correct what `errors` lists and apply again; nothing was changed.",
        details={"errors": entries},
    )


def parse_token(text: str) -> tuple[int, int]:
    """`12.3`, or `12` for the whole of commit 12. Raises InvalidInput."""
    seq, dot, index = text.partition(".")
    if not _is_number(seq) or (dot and not _is_number(index)):
        raise InvalidInput(
            f"{text[:60]!r} is not a resume token.",
            next_step="Send a token as a list, an event or a watch gave it.",
        )
    return int(seq), int(index) if dot else WHOLE_COMMIT


def parse_key(text: str) -> str:
    if len(text) > KEY_CHARACTERS_MAX or not text.isprintable():
        raise InvalidInput(
            f"An Idempotency-Key has 1 to {KEY_CHARACTERS_MAX} printable characters.", next_step="Take a UUID."
        )
    return text


def parse_actor(text: str) -> str:
    shown = "".join(c for c in text if c.isprintable()).strip()
    return shown[:ACTOR_CHARACTERS_MAX] or "token:default"


def parse_if_match(text: str) -> int | None:
    """None: any version. Raises InvalidInput."""
    value = text.strip().removeprefix("W/").strip('"')
    if value in ("", "*"):
        return None
    if not _is_number(value):
        raise InvalidInput(
            f"If-Match {text[:60]!r} is not a resourceVersion.", next_step="Send the object's metadata.resourceVersion."
        )
    return int(value)


def parse_involved(text: str) -> ObjectId | str:
    """`Kind/namespace/name`, `Kind/name`, or a uid."""
    parts = text.split("/")
    if len(parts) == 1:
        return text
    kinds = {**{str(kind).lower(): kind for kind in Kind}, **KINDS}
    kind = kinds.get(parts[0].lower())
    if kind is None or len(parts) > 3 or not all(parts):
        raise InvalidInput(
            f"{text[:100]!r} names no object.",
            next_step="Write Kind/namespace/name, such as Service/default/web, or a uid.",
        )
    return ObjectId(kind, parts[1] if len(parts) == 3 else "default", parts[-1])


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18
