"""Bytes or plain data into a document that may be walked without fear: bounded, finite, JSON only.

A contract comes from a unit or from a stranger's repository. It may be a bomb of aliases, a million brackets, a NaN.
All of that is refused here with one error that says where; nobody behind this module checks again.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote

import yaml

from spinyard.errors import InvalidInput

BYTES_MAX = 8 << 20
DEPTH_MAX = 100
NODES_MAX = 300_000
"""values after aliases are put in"""
REFS_MAX = 50
"""$refs that point at $refs, one after the other"""

_VERSION = re.compile(r"3\.([01])(\.\d+)?")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class InvalidContract(InvalidInput):
    """`pointer` is where in the document, or empty when there is none to point into."""

    code = "invalid_contract"

    def __init__(self, problem: str, pointer: str = "", *, next_step: str = "", subject: str = "the contract") -> None:
        at = f" at {short(pointer, 300)}" if pointer else ""
        super().__init__(
            f"{subject} is not valid{at}: {problem}",
            next_step=next_step or "mend the OpenAPI document; version 3.0 and 3.1 are read",
            details={"path": pointer or "/", "problem": problem},
        )
        self.problem, self.pointer = problem, pointer

    def of(self, subject: str) -> InvalidContract:
        """The same, telling which of several documents it is about."""
        return type(self)(self.problem, self.pointer, next_step=self.next_step, subject=subject)


class TooComplex(InvalidContract):
    """Within the limits of size, but its schemas multiply beyond what is looked at."""


@dataclass(frozen=True, slots=True)
class Document:
    """`minor`: 0 or 1, of OpenAPI 3.x. The data is a copy that is never changed: ids of its dicts name its schemas."""

    data: dict[str, object]
    minor: int

    def target(self, ref: object, pointer: str) -> tuple[object, str]:
        """What a $ref points at, and where that is; $refs at its end are followed."""
        for _ in range(REFS_MAX):
            if not isinstance(ref, str):
                raise InvalidContract("$ref is no text", pointer)
            found, place = self._look_up(ref, pointer)
            if not (isinstance(found, dict) and "$ref" in found) or (self.minor and len(found) > 1):
                return found, place
            ref = found["$ref"]
        raise InvalidContract("its $ref leads to another $ref, and so on without end", pointer)

    def deref(self, raw: object, pointer: str) -> tuple[dict[str, object], str]:
        """An object that may be a $ref (a parameter, a response ...), as itself."""
        if isinstance(raw, dict) and "$ref" in raw:
            raw, pointer = self.target(raw["$ref"], pointer)
        return as_object(raw, pointer), pointer

    def _look_up(self, ref: str, pointer: str) -> tuple[object, str]:
        if not ref.startswith("#/"):
            raise InvalidContract(
                f"$ref {short(ref)} points outside of this document",
                pointer,
                next_step="bundle it into one file; only refs like #/components/schemas/Photo are followed",
            )
        here: object = self.data
        for token in ref[2:].split("/"):
            key = unquote(token).replace("~1", "/").replace("~0", "~")
            if isinstance(here, dict) and key in here:
                here = here[key]
            elif isinstance(here, list) and key.isdecimal() and len(key) < 7 and int(key) < len(here):
                here = here[int(key)]
            else:
                raise InvalidContract(f"$ref {short(ref)} points at nothing", pointer)
        return here, ref[1:]


def read(source: bytes | str | Mapping[str, object]) -> Document:
    """Raises InvalidContract."""
    raw = _parse(source) if isinstance(source, bytes | str) else source
    data = _Copy().value(raw, "", 0)
    if not isinstance(data, dict):
        raise InvalidContract(f"an OpenAPI document is an object, this is {kind_of(data)}")
    if "swagger" in data:
        raise InvalidContract(
            f"this is OpenAPI {short(data['swagger'])}", "/swagger", next_step="convert it to 3.0 or 3.1"
        )
    if "openapi" not in data:
        raise InvalidContract("it does not say `openapi: 3.x`, so it is no OpenAPI document")
    version = _VERSION.fullmatch(str(data["openapi"]))
    if version is None:
        raise InvalidContract(f"version {short(data['openapi'])} is not read, only 3.0 and 3.1", "/openapi")
    if not isinstance(data.get("paths", {}), dict):
        raise InvalidContract(f"paths must be an object, this is {kind_of(data['paths'])}", "/paths")
    return Document(data, int(version.group(1)))


def digest(source: Mapping[str, object]) -> str:
    """The same for the same content, however it is written."""
    return hashlib.sha256(canonical(source).encode()).hexdigest()


def canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def token(key: object) -> str:
    """A key as one step of a JSON pointer."""
    return "/" + str(key).replace("~", "~0").replace("/", "~1")


def as_object(value: object, pointer: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise InvalidContract(f"there must be an object, this is {kind_of(value)}", pointer)
    return value


def as_list(value: object, pointer: str) -> list[object]:
    if not isinstance(value, list):
        raise InvalidContract(f"there must be a list, this is {kind_of(value)}", pointer)
    return value


def kind_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {short(value)}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return f"a {type(value).__name__}"


def short(value: object, length_max: int = 80) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = "".join(char if char.isprintable() else "?" for char in text[: length_max + 1])
    return text if len(text) <= length_max else text[: length_max - 3] + "..."


# --- text into values -------------------------------------------------------------------------------------------------


def _parse(source: bytes | str) -> object:
    if len(source) > BYTES_MAX:
        raise InvalidContract(f"it is larger than {BYTES_MAX >> 20} MiB")
    try:
        text = source.decode("utf-8-sig") if isinstance(source, bytes) else source
    except UnicodeDecodeError as cause:
        raise InvalidContract(f"it is not UTF-8 text (byte {cause.start})") from cause
    return _parse_json(text) if text.lstrip()[:1] in ("{", "[") else _parse_yaml(text)


def _parse_json(text: str) -> object:
    try:
        parsed: object = json.loads(text, object_pairs_hook=_pairs)
    except json.JSONDecodeError as cause:
        try:
            return _parse_yaml(text)  # flow style YAML begins with a bracket too
        except InvalidContract:
            raise InvalidContract(f"it is not JSON: line {cause.lineno}, column {cause.colno}: {cause.msg}") from cause
    except RecursionError as cause:
        raise InvalidContract(f"it is nested deeper than {DEPTH_MAX}") from cause
    except ValueError as cause:
        raise InvalidContract(f"it is not JSON: {short(str(cause))}") from cause
    return parsed


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    _refuse_twice([key for key, _ in pairs], "in one object")
    return dict(pairs)


def _refuse_twice(keys: list[str], place: str) -> None:
    if len(keys) == len(set(keys)):
        return
    seen: set[str] = set()
    for key in keys:
        if key in seen:
            raise InvalidContract(f"the key {short(key)} stands twice {place}")
        seen.add(key)


class _Loader(_LOADER):  # type: ignore[misc,valid-type]
    """YAML 1.2 as OpenAPI wants it: `no` and 2026-01-02 are texts, and a key stands once."""

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        _refuse_twice(keys, f"in the object at line {node.start_mark.line + 1}")
        made: dict[object, object] = super().construct_mapping(node, deep=deep)
        return made


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def _parse_yaml(text: str) -> object:
    try:
        _measure(text)
        parsed: object = yaml.load(text, Loader=_Loader)  # noqa: S506 - made of the safe loader
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
        raise InvalidContract(f"it is not YAML: {place}{cause.problem}") from cause
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as cause:
        raise InvalidContract(f"it is not YAML: {short(str(cause))}") from cause
    return parsed


def _measure(text: str) -> None:
    """Before anything is built, which goes down one call for each level."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH_MAX:
            raise InvalidContract(f"it is nested deeper than {DEPTH_MAX}")
        if count > 3 * NODES_MAX:
            raise InvalidContract(f"it has more than {NODES_MAX:,} values")


class _Copy:
    """A copy of JSON values only, with every alias a value of its own: no cycle, no bomb."""

    def __init__(self) -> None:
        self._nodes = 0

    def value(self, raw: object, pointer: str, depth: int) -> object:
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise InvalidContract(f"it has more than {NODES_MAX:,} values", pointer)
        if depth > DEPTH_MAX:
            raise InvalidContract(f"it is nested deeper than {DEPTH_MAX}", pointer)
        match raw:
            case None | bool() | str():
                return raw
            case int() | float():
                return self._number(raw, pointer)
            case Mapping():
                out: dict[str, object] = {}
                for key, item in raw.items():
                    if isinstance(key, bool) or not isinstance(key, str | int):
                        raise InvalidContract(f"a key must be text, this is {kind_of(key)}", pointer)
                    if key == "<<":
                        raise InvalidContract("YAML's merge key << is not read: write the fields out", pointer)
                    if str(key) in out:
                        raise InvalidContract(f"the key {short(str(key))} stands twice", pointer)
                    out[str(key)] = self.value(item, pointer + token(key), depth + 1)
                return out
            case list() | tuple():
                return [self.value(item, f"{pointer}/{n}", depth + 1) for n, item in enumerate(raw)]
            case _:
                raise InvalidContract(f"there is {kind_of(raw)}, which JSON does not have", pointer)

    def _number(self, raw: int | float, pointer: str) -> int | float:
        if isinstance(raw, float) and not math.isfinite(raw):
            raise InvalidContract(f"{raw} is not a number that JSON has", pointer)
        if abs(raw) > 10**308:
            raise InvalidContract("the number is too large", pointer)
        return raw
