"""What several use cases read and refuse alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from spinyard.core.spec import Kind
from spinyard.errors import Conflict, InvalidInput
from spinyard.ports.store import StoredObject, Transaction
from spinyard.usecases.declared import ObjectId

PAGE = 200


def being_deleted(id: ObjectId) -> Conflict:
    return Conflict(
        f"{id} is being deleted; its name is free when that is done.",
        code="being_deleted",
        retryable=True,
        retry_after_seconds=1.0,
        next_step=f"Repeat after `spinyard wait --for=delete {id.kind.lower()}/{id.name} -n {id.namespace}`.",
    )


def every(
    tx: Transaction,
    kind: Kind,
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    finished: bool | None = False,
) -> list[StoredObject]:
    """All live ones (`finished` None: kept records too), page by page."""
    out: list[StoredObject] = []
    after = ""
    while True:
        page = tx.select(kind, namespace=namespace, labels=labels, finished=finished, after=after, limit=PAGE)
        out += page
        if len(page) < PAGE:
            return out
        row = page[-1].row
        after = f"{row.namespace}/{row.name}/{row.uid}"


def problem(path: str, code: str, message: str, expected: str) -> dict[str, object]:
    return {"path": path, "code": code, "message": message, "expected": expected}


def raise_problems(problems: Sequence[Mapping[str, object]]) -> None:
    if problems:
        first = str(problems[0]["message"])
        more = f" (and {len(problems) - 1} more problems)" if len(problems) > 1 else ""
        raise InvalidInput(
            first + more,
            code="invalid_manifest",
            next_step="Correct what `errors` lists and apply again; nothing was changed.",
            details={"errors": [dict(p) for p in problems]},
        )
