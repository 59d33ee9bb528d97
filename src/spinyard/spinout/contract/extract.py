"""The contract of functions that are to leave: one POST for each, its arguments as a JSON object, its answer as 200.

Only type hints are read, nothing is called. Types become schemas as msgspec has them, which is also what goes over the
wire: bytes as base64, sets as lists of different items, enums as their values.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from spinyard.errors import InvalidInput
from spinyard.spinout.contract.document import canonical, token

Json = dict[str, object]
Function = Callable[..., object]

FUNCTIONS_MAX: Final = 1_000
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_REF: Final = "#/components/schemas/{name}"
_PROBLEM: Final = "Problem"
_AWAITABLES: Final = (collections.abc.Awaitable, collections.abc.Coroutine)
_STREAMS: Final = (
    *(collections.abc.Generator, collections.abc.Iterator, collections.abc.AsyncGenerator),
    *(collections.abc.AsyncIterator, collections.abc.AsyncIterable),
)
_PROBLEM_SCHEMA: Final[Json] = {
    "title": _PROBLEM,
    "description": "What it raised, as RFC 9457 has it; a declared exception is its type, with args and state.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "args": {"type": "array"},
        "state": {"type": "object"},
    },
}


# The default of what cannot be left in: there is no value to show.
_LEFT_OUT: Final = object()


class CannotExtract(InvalidInput):
    code = "cannot_extract"


@dataclass(frozen=True, slots=True)
class Leaving:
    """Functions of one boundary, by the name in their path. `methods`: those whose first argument is the object."""

    name: str
    functions: Mapping[str, Function]
    methods: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Signature:
    boundary: str
    name: str
    summary: str
    arguments: tuple[tuple[str, object, object], ...]
    """name, type, default or inspect.Parameter.empty"""
    answer: object


def contract_of(boundaries: Sequence[Leaving], *, title: str = "", version: str = "1") -> Json:
    """OpenAPI 3.1. Raises CannotExtract for a function whose hints do not say everything."""
    signatures = [
        _signature(boundary, name, function)
        for boundary in sorted(boundaries, key=lambda one: one.name)
        for name, function in sorted(boundary.functions.items())
    ]
    _refuse_odd(boundaries, signatures)
    schemas, components = _schemas(signatures)
    paths: Json = {}
    for signature in signatures:
        paths[f"/{signature.boundary}/{signature.name}"] = {"post": _operation(signature, schemas)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title or ", ".join(sorted({one.name for one in boundaries})), "version": version},
        "paths": paths,
        "components": {"schemas": dict(sorted({**components, _PROBLEM: _PROBLEM_SCHEMA}.items()))},
    }


# --- hints ------------------------------------------------------------------------------------------------------------


def _signature(boundary: Leaving, name: str, function: Function) -> _Signature:
    where = f"{boundary.name}: {getattr(function, '__qualname__', name)}"
    try:
        parameters = list(inspect.signature(function).parameters.values())
        hints = typing.get_type_hints(function, include_extras=True)
    except (TypeError, ValueError, NameError, AttributeError) as cause:
        raise CannotExtract(
            f"{where}: its type hints cannot be read: {cause}",
            next_step="import at run time what its hints name, not only under TYPE_CHECKING",
        ) from cause
    parameters = parameters[1:] if name in boundary.methods else parameters
    if "return" not in hints:
        raise CannotExtract(f"{where}: what it returns has no type hint", next_step="write `-> None` for nothing")
    return _Signature(
        boundary=boundary.name,
        name=name,
        summary=_first_line(inspect.getdoc(function) or ""),
        arguments=tuple(_argument(one, hints, where) for one in parameters),
        answer=_awaited(hints["return"], where),
    )


def _argument(parameter: inspect.Parameter, hints: dict[str, object], where: str) -> tuple[str, object, object]:
    """As the SDK sends it: `*args` is a list of that name, `**kwargs` an object."""
    name = parameter.name
    if name not in hints:
        raise CannotExtract(f"{where}: the argument {name} has no type hint", next_step="write its type")
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        return name, types.GenericAlias(list, (hints[name],)), _LEFT_OUT
    if parameter.kind is inspect.Parameter.VAR_KEYWORD:
        return name, types.GenericAlias(dict, (str, hints[name])), _LEFT_OUT
    return name, hints[name], parameter.default


def _awaited(answer: object, where: str) -> object:
    origin = typing.get_origin(answer) or answer
    if origin in _STREAMS:
        raise CannotExtract(
            f"{where}: it answers bit by bit, which has no contract here", next_step="return a list, or pages of one"
        )
    return typing.get_args(answer)[-1] if origin in _AWAITABLES and typing.get_args(answer) else answer


def _refuse_odd(boundaries: Sequence[Leaving], signatures: Sequence[_Signature]) -> None:
    if not signatures:
        raise CannotExtract("there is no function in these boundaries", next_step="mark one with @boundary")
    if len(signatures) > FUNCTIONS_MAX:
        raise CannotExtract(f"there are more than {FUNCTIONS_MAX} functions", next_step="make smaller boundaries")
    # A boundary outside of the namespace `default` is called namespace/name.
    for name in [*(part for one in boundaries for part in one.name.split("/", 1)), *(one.name for one in signatures)]:
        if _NAME.fullmatch(name) is None:
            raise CannotExtract(f"{name!r} cannot stand in a path", next_step="use letters, digits, _ . -")
    seen: set[tuple[str, str]] = set()
    for one in signatures:
        if (one.boundary, one.name) in seen:
            raise CannotExtract(f"{one.boundary} has two functions called {one.name}", next_step="rename one of them")
        seen.add((one.boundary, one.name))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].strip()


# --- schemas ----------------------------------------------------------------------------------------------------------


def _schemas(signatures: Sequence[_Signature]) -> tuple[dict[tuple[str, str, str], Json], Json]:
    """By (boundary, function, argument or empty for the answer), and what they refer to."""
    wanted = {
        (one.boundary, one.name, name): hint
        for one in signatures
        for name, hint in (*((name, hint) for name, hint, _ in one.arguments), ("", one.answer))
    }
    for (boundary, name, argument), hint in wanted.items():
        _try(hint, f"{boundary}: {name}: {f'the argument {argument}' if argument else 'what it returns'}")
    try:
        made, components = msgspec.json.schema_components(tuple(wanted.values()), ref_template=_REF)
    except (TypeError, ValueError) as cause:
        raise CannotExtract(f"the types do not go together: {_first_line(str(cause))}") from cause
    if _PROBLEM in components:
        raise CannotExtract(f"a type of yours is called {_PROBLEM}, as that of errors", next_step="rename it")
    schemas: dict[tuple[str, str, str], Json] = dict(zip(wanted, made, strict=True))
    known: Json = dict(components)
    for key, hint in wanted.items():
        _Times(known).tell(msgspec.inspect.type_info(hint), schemas[key])
    return schemas, known


def _try(hint: object, where: str) -> None:
    try:
        msgspec.json.schema(hint)
    except (TypeError, ValueError, NameError, RecursionError) as cause:
        found = _first_line(str(cause).rpartition("\n\n")[2])
        raise CannotExtract(
            f"{where}: {found}",
            next_step="use plain types, dataclasses, TypedDict, enums, msgspec.Struct, and lists or dicts of them",
        ) from cause


class _Times:
    """msgspec calls a datetime a text and no more, as it may lack its zone. A contract must tell that a text became a
    time, so it says `date-time`; an answer without a zone breaks it, rightly: nobody knows which time it is."""

    def __init__(self, components: Json) -> None:
        self._components = components
        self._seen: set[int] = set()

    def tell(self, kind: msgspec.inspect.Type, schema: object) -> None:
        """Walks a type and its schema side by side."""
        if not isinstance(schema, dict):
            return
        if isinstance(schema.get("$ref"), str):
            schema = self._components.get(schema["$ref"].rpartition("/")[2])
            if not isinstance(schema, dict) or id(schema) in self._seen:
                return
            self._seen.add(id(schema))
        match kind:
            case msgspec.inspect.DateTimeType() if "format" not in schema:
                schema["format"] = "date-time"
            case msgspec.inspect.Metadata():
                self.tell(kind.type, schema)
            case msgspec.inspect.UnionType():
                self._union(kind, schema)
            case msgspec.inspect.DictType():
                self.tell(kind.value_type, schema.get("additionalProperties"))
            case msgspec.inspect.TupleType():
                listed = schema.get("prefixItems")
                for n, item in enumerate(kind.item_types):
                    self.tell(item, listed[n] if isinstance(listed, list) and n < len(listed) else None)
            case msgspec.inspect.CollectionType():
                self.tell(kind.item_type, schema.get("items"))
            case (
                msgspec.inspect.StructType()
                | msgspec.inspect.DataclassType()
                | msgspec.inspect.TypedDictType()
                | msgspec.inspect.NamedTupleType()
            ):
                self._fields(kind.fields, schema)
            case _:
                pass  # nothing in it can be a time

    def _union(self, kind: msgspec.inspect.UnionType, schema: Json) -> None:
        listed = schema.get("anyOf")
        if isinstance(listed, list) and len(listed) == len(kind.types):
            for one, given in zip(kind.types, listed, strict=True):
                self.tell(one, given)

    def _fields(self, fields: Sequence[msgspec.inspect.Field], schema: Json) -> None:
        properties, listed = schema.get("properties"), schema.get("prefixItems")
        for n, field in enumerate(fields):
            if isinstance(properties, dict):
                self.tell(field.type, properties.get(field.encode_name))
            elif isinstance(listed, list) and n < len(listed):
                self.tell(field.type, listed[n])


# --- operations -------------------------------------------------------------------------------------------------------


def _operation(signature: _Signature, schemas: dict[tuple[str, str, str], Json]) -> Json:
    key = (signature.boundary, signature.name)
    properties: Json = {}
    required: list[str] = []
    for name, _, default in signature.arguments:
        properties[name] = _with_default(schemas[*key, name], default)
        if default is inspect.Parameter.empty:
            required.append(name)
    body: Json = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        body["required"] = required
    problem = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas{token(_PROBLEM)}"}}}
    return {
        "operationId": f"{signature.boundary}.{signature.name}",
        **({"summary": signature.summary} if signature.summary else {}),
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "What it returned.",
                "content": {"application/json": {"schema": schemas[*key, ""]}},
            },
            "default": {"description": "What it raised.", "content": problem},
        },
    }


def _with_default(schema: Json, default: object) -> Json:
    """A default that is no plain data (an object made at import) is left out: the argument is optional, that is all."""
    if default is inspect.Parameter.empty:
        return schema
    try:
        plain = msgspec.to_builtins(default)
        canonical(plain)
    except (TypeError, ValueError, msgspec.ValidationError):
        return schema
    return {"allOf": [schema], "default": plain} if "$ref" in schema else {**schema, "default": plain}


def is_boundary(found: object) -> bool:
    """Whether this carries the mark of the SDK's `@boundary`."""
    return not isinstance(found, types.ModuleType) and hasattr(found, "__spinyard_boundary__")


def leaving(found: object) -> Leaving:
    """The boundary that a marked function or class belongs to."""
    mark: object = getattr(found, "__spinyard_boundary__", None)
    name, functions = getattr(mark, "name", None), getattr(mark, "functions", None)
    if not isinstance(name, str) or not isinstance(functions, Mapping):
        raise CannotExtract(f"{found!r} carries a mark that is not that of @boundary", next_step="mark it with the SDK")
    return Leaving(name, dict(functions), frozenset(one for one in functions if _is_method(found, one)))


def _is_method(found: object, name: str) -> bool:
    return isinstance(found, type) and not isinstance(inspect.getattr_static(found, name, None), staticmethod)
