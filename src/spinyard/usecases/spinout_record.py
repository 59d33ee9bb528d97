"""What people did, written into the hash chain of a Spinout in the same transaction as the deed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spinyard.core.chain import RECORD_BYTES_MAX, RecordDraft
from spinyard.core.spinout import SpinoutSpec
from spinyard.ports.store import StoredObject, Transaction
from spinyard.spinout.config import config_digest
from spinyard.usecases.spinouts import spinout_spec

SPEC_BYTES_MAX = RECORD_BYTES_MAX - 1024


def record(tx: Transaction, found: StoredObject, kind: str, actor: str, **body: object) -> None:
    """`kind`: config, verb, approval, waiver or decision. What is empty is left out of the body. `found`: as the deed
    left it."""
    given: dict[str, object] = {
        "state": found.row.state,
        "config": config_digest(spinout_spec(found)),
        **{name: value for name, value in body.items() if value not in (None, "", 0, ())},
    }
    tx.record(found.row.uid, RecordDraft(kind, msgspec.json.encode(given, order="sorted")), actor)


def record_config(tx: Transaction, found: StoredObject, actor: str, verb: str) -> None:
    """The whole of what was declared, its contract by its digest; what is too long for a record by its digest alone."""
    spec = _declared(spinout_spec(found))
    fits = len(msgspec.json.encode(spec)) <= SPEC_BYTES_MAX
    record(tx, found, "config", actor, verb=verb, spec=spec if fits else None)


def _declared(spec: SpinoutSpec) -> Mapping[str, object]:
    given: dict[str, object] = msgspec.to_builtins(spec)
    done = {"approvals", "started", "promoted", "promoted_fully", "abort", "jwks", "contract", "capacity_floor"}
    return {name: value for name, value in given.items() if name not in done}
