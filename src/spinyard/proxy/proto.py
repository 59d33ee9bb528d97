"""Dicts to protobuf, without generated code.

The descriptors come from one small file (docs/decisions/0002-xds-descriptors.md) and live in a private pool, so nothing
else in the process can collide with them.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

TYPE_PREFIX = "type.googleapis.com/"


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    data = files("spinyard.proxy").joinpath("xds.binpb.gz").read_bytes()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(gzip.decompress(data)).file:
        pool.Add(file)
    return pool


@cache
def message_class(name: str) -> type[Any]:
    """The class of a message by its full name, such as `envoy.config.cluster.v3.Cluster`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(name))


def encode(name: str, value: Mapping[str, Any]) -> bytes:
    """The message `name` with these JSON fields, as bytes; equal values give equal bytes.

    Raises google.protobuf.json_format.ParseError for a field that the message does not have.
    """
    message: Message = message_class(name)()
    json_format.ParseDict(dict(value), message, descriptor_pool=_pool())
    _settle_packed(message)
    return message.SerializeToString(deterministic=True)


def _settle_packed(message: Any) -> None:
    """Messages packed into an Any are encoded apart, and with maps in an order that differs from process to process."""
    for descriptor, value in message.ListFields():
        if descriptor.type != FieldDescriptor.TYPE_MESSAGE:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            is_plain = descriptor.message_type.fields_by_name["value"].type != FieldDescriptor.TYPE_MESSAGE
            parts = () if is_plain else value.values()
        else:
            parts = value if descriptor.is_repeated else (value,)
        for part in parts:
            if part.DESCRIPTOR.full_name == "google.protobuf.Any":
                inner = message_class(part.type_url.removeprefix(TYPE_PREFIX)).FromString(part.value)
                _settle_packed(inner)
                part.value = inner.SerializeToString(deterministic=True)
            else:
                _settle_packed(part)


def decode(name: str, data: bytes) -> dict[str, Any]:
    """The inverse of `encode`, in proto field names: for tests and for people."""
    message = message_class(name).FromString(data)
    result: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=_pool()
    )
    return result


def field(number: int, body: bytes) -> bytes:
    """One length-delimited field. Concatenating the fields of a message is the message: parts can be encoded apart."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
