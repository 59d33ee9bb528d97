"""Rows of the database to values of `core`, and back. Nothing else knows what is in the JSON columns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from spinyard.core.ids import Digest, ResourceKey, Uid
from spinyard.core.plan import Reservation, Resource
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    ClaimSpec,
    HoldSpec,
    JobSpec,
    Kind,
    NamedTemplateSpec,
    ObjectSpec,
    RolloutSpec,
    ServiceSpec,
    SpinSpec,
    TemplateSpec,
    WarmPoolSpec,
)
from spinyard.core.spinout import SpinoutSpec
from spinyard.core.want import Want
from spinyard.ports.store import StoredObject

if TYPE_CHECKING:
    from spinyard.store.link import Link

encoder = msgspec.json.Encoder()

_SPECS: Mapping[str, msgspec.json.Decoder[ObjectSpec]] = {
    Kind.TEMPLATE: msgspec.json.Decoder(NamedTemplateSpec),
    Kind.SERVICE: msgspec.json.Decoder(ServiceSpec),
    Kind.SPIN: msgspec.json.Decoder(SpinSpec),
    Kind.JOB: msgspec.json.Decoder(JobSpec),
    Kind.WARM_POOL: msgspec.json.Decoder(WarmPoolSpec),
    Kind.CLAIM: msgspec.json.Decoder(ClaimSpec),
    Kind.ROLLOUT: msgspec.json.Decoder(RolloutSpec),
    Kind.SPINOUT: msgspec.json.Decoder(SpinoutSpec),
    Kind.HOLD: msgspec.json.Decoder(HoldSpec),
}
_TEMPLATE = msgspec.json.Decoder(TemplateSpec)
_WANT: msgspec.json.Decoder[Want] = msgspec.json.Decoder(Want)
_PAIRS = msgspec.json.Decoder(tuple[tuple[str, str], ...])
_MAP = msgspec.json.Decoder(dict[str, str])

TEMPLATES_MAX = 256
"""decoded templates kept in memory"""

OBJECT_COLUMNS = (
    "uid, kind, namespace, name, spec, status, state, created_at, generation, resource_version, wake_seq, lease_token, "
    "lease_until, owner_uid, slot, template_digest, delete_at, force, paused, labels, outcome, failed_at, served_at"
)
STORED_COLUMNS = OBJECT_COLUMNS + ", annotations, why, reason, wake_at, finished_at, commit_seq, state_since"
RESOURCE_COLUMNS = (
    "key, owner_uid, provider, kind, wanted, stored_want, gone_after_seconds, absent_at, closed_at, retained, "
    "created_at"
)

Record = Sequence[Any]


class Unreadable(Exception):
    """A row written by newer code. It is left alone."""


def json_text(value: object) -> str:
    return encoder.encode(value).decode()


def label_pairs(labels: Mapping[str, str] | Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items() if isinstance(labels, Mapping) else labels))


def decode_spec(kind: Kind, text: str) -> ObjectSpec:
    return _SPECS[kind].decode(text)


def decode_template(text: str) -> TemplateSpec:
    return _TEMPLATE.decode(text)


def has_readable_want(record: Record) -> bool:
    return record[5] is None or _want(record[5]) is not None


def resource_from(record: Record) -> Resource:
    """`stored_want` of an unknown sort becomes None: whoever rebuilds the world from it must leave it alone."""
    key, owner, provider, kind, wanted, want, gone_after, absent_at, closed_at, retained, created_at = record
    return Resource(
        key=ResourceKey(key),
        owner=Uid(owner),
        provider=provider,
        kind=kind,
        wanted=wanted == 1,
        stored_want=None if want is None else _want(want),
        gone_after_seconds=gone_after,
        absent_at=absent_at,
        closed_at=closed_at,
        retained=retained == 1,
        created_at=created_at,
    )


def row_from(
    record: Sequence[Any],
    template: TemplateSpec | None = None,
    resources: tuple[Resource, ...] = (),
    reservations: tuple[Reservation, ...] = (),
) -> ObjectRow:
    """Raises Unreadable."""
    (
        uid, kind, namespace, name, spec, status, state, created_at, generation, resource_version, wake_seq,
        lease_token, lease_until, owner_uid, slot, digest, delete_at, force, paused, labels, outcome, failed_at,
        served_at,
    ) = record[:23]  # fmt: skip
    decoder = _SPECS.get(kind)
    if decoder is None:
        raise Unreadable(f"kind {kind}")
    try:
        decoded = decoder.decode(spec)
        pairs = _PAIRS.decode(labels)
    except msgspec.MsgspecError as error:
        raise Unreadable(f"spec of {kind} {uid}: {error}") from error
    return ObjectRow(
        uid=uid,
        kind=Kind(kind),
        namespace=namespace,
        name=name,
        spec=decoded,
        status=status.encode(),
        state=state,
        created_at=created_at,
        generation=generation,
        resource_version=resource_version,
        wake_seq=wake_seq,
        lease_token=lease_token,
        lease_until=lease_until,
        owner_uid=owner_uid,
        slot=slot,
        template_digest=digest,
        template=template,
        delete_at=delete_at,
        force=force == 1,
        paused=paused == 1,
        labels=pairs,
        resources=resources,
        reservations=reservations,
        outcome=outcome,
        failed_at=failed_at,
        served_at=served_at,
    )


def stored_from(record: Sequence[Any], row: ObjectRow) -> StoredObject:
    annotations, why, reason, wake_at, finished_at, commit_seq, state_since = record[23:30]
    return StoredObject(
        row=row,
        annotations=_MAP.decode(annotations),
        why=why,
        reason=reason,
        wake_at=wake_at,
        finished_at=finished_at,
        commit_seq=commit_seq,
        state_since=state_since,
    )


class Templates:
    """Templates never change, so what was decoded once is kept; the least recently used goes first."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, TemplateSpec] = OrderedDict()

    def find(self, connection: Link, digests: Iterable[str]) -> Mapping[str, TemplateSpec | None]:
        """One that was never stored is not in the answer; None: written by newer code."""
        wanted = {digest for digest in digests if digest}
        found: dict[str, TemplateSpec | None] = {
            digest: kept for digest in wanted if (kept := self._kept.get(digest)) is not None
        }
        missing = sorted(wanted - found.keys())
        for start in range(0, len(missing), 200):
            chunk = missing[start : start + 200]
            for digest, text in connection.execute(_FIND_TEMPLATES, {"digests": chunk}).all():
                try:
                    found[digest] = decode_template(text)
                except msgspec.MsgspecError:
                    found[digest] = None
        for digest, template in found.items():
            if template is not None:
                self._keep(digest, template)
        return found

    def get(self, connection: Link, digest: Digest) -> TemplateSpec | None:
        return self.find(connection, (digest,)).get(digest)

    def _keep(self, digest: str, template: TemplateSpec) -> None:
        # pop and assign, each atomic: readers of other threads share this.
        self._kept.pop(digest, None)
        self._kept[digest] = template
        while len(self._kept) > TEMPLATES_MAX:
            self._kept.popitem(last=False)


_FIND_TEMPLATES = sa.text("SELECT digest, spec FROM templates WHERE digest IN :digests").bindparams(
    sa.bindparam("digests", expanding=True)
)


def _want(text: str) -> Want | None:
    try:
        return _WANT.decode(text)
    except msgspec.MsgspecError:
        return None
