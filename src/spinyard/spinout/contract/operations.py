"""The operations of a document, checked: paths, parameters, bodies, answers and who may call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from spinyard.spinout.contract.document import (
    Document,
    InvalidContract,
    as_list,
    as_object,
    canonical,
    kind_of,
    short,
    token,
)

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
_PLACES: Final = ("path", "query", "header", "cookie")
_STYLES: Final = {"path": "simple", "query": "form", "header": "simple", "cookie": "form"}
_STATUS: Final = re.compile(r"[1-5](\d\d|XX)|default")
_NAME_IN_PATH: Final = re.compile(r"\{([^{}]*)\}")
# What tells security schemes apart; the rest is description.
_SCHEME_WORDS: Final = ("type", "in", "name", "scheme", "openIdConnectUrl")

ANYBODY: Final[frozenset[tuple[str, frozenset[str]]]] = frozenset()
"""one way to be let in: schemes with their scopes, all of them together; none"""


@dataclass(frozen=True, slots=True)
class Media:
    """`schema` is None when nothing is said about the content."""

    schema: object
    pointer: str


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    place: str
    is_required: bool
    style: str
    media: Media
    is_deprecated: bool
    pointer: str

    @property
    def title(self) -> str:
        return f"{self.place} parameter {self.name}"


@dataclass(frozen=True, slots=True)
class Body:
    is_required: bool
    content: Mapping[str, Media]
    pointer: str


@dataclass(frozen=True, slots=True)
class Header:
    name: str
    is_required: bool
    media: Media
    pointer: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: str
    content: Mapping[str, Media]
    headers: Mapping[str, Header]
    pointer: str

    @property
    def is_error(self) -> bool:
        return self.status[0] in "45"


@dataclass(frozen=True, slots=True)
class Operation:
    """Parameters by what finds them again: (place, name), in a path (place, position)."""

    method: str
    path: str
    pointer: str
    parameters: Mapping[tuple[str, str], Parameter]
    body: Body | None
    answers: Mapping[str, Answer]
    security: frozenset[frozenset[tuple[str, frozenset[str]]]]
    operation_id: str
    is_deprecated: bool
    callbacks: str


def shape_of_path(path: str) -> str:
    """Without the names: /photos/{id} and /photos/{photo} are one path."""
    return _NAME_IN_PATH.sub("{}", path)


def operations(document: Document) -> dict[tuple[str, str], Operation]:
    """By path without names, and method. Raises InvalidContract."""
    found: dict[tuple[str, str], Operation] = {}
    first: dict[str, str] = {}
    for path, raw in as_object(document.data.get("paths", {}), "/paths").items():
        if path.startswith("x-"):
            continue
        pointer = f"/paths{token(path)}"
        if not path.startswith("/"):
            raise InvalidContract(f"a path begins with /, this is {short(path)}", pointer)
        shape = shape_of_path(path)
        if shape in first:
            raise InvalidContract(f"{short(path)} and {short(first[shape])} are the same path", pointer)
        first[shape] = path
        item, _ = document.deref(raw, pointer)
        for method in METHODS:
            if method in item:
                found[shape, method] = _operation(document, path, item, method, pointer)
    return found


def _operation(document: Document, path: str, item: dict[str, object], method: str, above: str) -> Operation:
    pointer = f"{above}/{method}"
    raw = as_object(item[method], pointer)
    parameters = _parameters(document, path, item, above) | _parameters(document, path, raw, pointer)
    answers = as_object(raw.get("responses", {}), f"{pointer}/responses")
    return Operation(
        method=method.upper(),
        path=path,
        pointer=pointer,
        parameters=parameters,
        body=_body(document, raw, pointer),
        answers={
            answer.status: answer
            for status, one in answers.items()
            if not status.startswith("x-")
            for answer in [_answer(document, status, one, f"{pointer}/responses{token(status)}")]
        },
        security=_security(document, raw, pointer),
        operation_id=str(raw.get("operationId", "")),
        is_deprecated=raw.get("deprecated") is True,
        callbacks=canonical(raw.get("callbacks", {})),
    )


def _parameters(
    document: Document, path: str, holder: dict[str, object], pointer: str
) -> dict[tuple[str, str], Parameter]:
    in_path = _NAME_IN_PATH.findall(path)
    found: dict[tuple[str, str], Parameter] = {}
    for n, one in enumerate(as_list(holder.get("parameters", []), f"{pointer}/parameters")):
        here = f"{pointer}/parameters/{n}"
        raw, _ = document.deref(one, here)
        name, place = raw.get("name"), raw.get("in")
        if not isinstance(name, str) or place not in _PLACES or not isinstance(place, str):
            raise InvalidContract("a parameter needs a name and `in`: path, query, header or cookie", here)
        key = name
        if place == "path":
            if name not in in_path:
                raise InvalidContract(f"the path {short(path)} has no {{{short(name)}}}", here)
            key = str(in_path.index(name))
        elif place == "header":
            key = name.lower()
        if (place, key) in found:
            raise InvalidContract(f"the {place} parameter {short(name)} stands twice", here)
        found[place, key] = Parameter(
            name=name,
            place=place,
            is_required=place == "path" or raw.get("required") is True,
            style=_style(raw, place),
            media=_carried(document, raw, here),
            is_deprecated=raw.get("deprecated") is True,
            pointer=here,
        )
    return found


def _style(raw: dict[str, object], place: str) -> str:
    """How a list or an object is written into a text."""
    style = str(raw.get("style", _STYLES[place]))
    explode = raw.get("explode", style == "form")
    media = next(iter(as_object(raw["content"], "")), "") if "content" in raw else ""
    return media or (f"{style}, exploded" if explode else style)


def _carried(document: Document, raw: dict[str, object], pointer: str) -> Media:
    """Of a parameter or header: its schema stands there, or inside the only content."""
    if "content" in raw:
        content = _content(document, raw, pointer)
        return next(iter(content.values()), Media(True, pointer))
    return Media(raw.get("schema", True), f"{pointer}/schema")


def _body(document: Document, holder: dict[str, object], pointer: str) -> Body | None:
    if "requestBody" not in holder:
        return None
    here = f"{pointer}/requestBody"
    raw, _ = document.deref(holder["requestBody"], here)
    return Body(raw.get("required") is True, _content(document, raw, here), here)


def _answer(document: Document, status: str, one: object, pointer: str) -> Answer:
    if _STATUS.fullmatch(status.upper() if status != "default" else status) is None:
        raise InvalidContract(f"a status is like 200, 4XX or default, this is {short(status)}", pointer)
    raw, _ = document.deref(one, pointer)
    headers = {}
    for name, given in as_object(raw.get("headers", {}), f"{pointer}/headers").items():
        here = f"{pointer}/headers{token(name)}"
        header, _ = document.deref(given, here)
        if name.lower() != "content-type":
            media = _carried(document, header, here)
            headers[name.lower()] = Header(name, header.get("required") is True, media, here)
    status = status if status == "default" else status.upper()
    return Answer(status, _content(document, raw, pointer), headers, pointer)


def _content(document: Document, holder: dict[str, object], pointer: str) -> dict[str, Media]:
    """By media type in lower case and without parameters."""
    found: dict[str, Media] = {}
    for name, given in as_object(holder.get("content", {}), f"{pointer}/content").items():
        here = f"{pointer}/content{token(name)}"
        media, _ = document.deref(given, here)
        found.setdefault(name.split(";")[0].strip().lower(), Media(media.get("schema", True), f"{here}/schema"))
    return found


def _security(
    document: Document, raw: dict[str, object], pointer: str
) -> frozenset[frozenset[tuple[str, frozenset[str]]]]:
    """Ways to be let in, each of which suffices."""
    here = f"{pointer}/security" if "security" in raw else "/security"
    given = as_list(raw.get("security", document.data.get("security", [])), here)
    ways = [frozenset(_schemes(document, as_object(way, f"{here}/{n}"), f"{here}/{n}")) for n, way in enumerate(given)]
    return frozenset(ways or [ANYBODY])


def _schemes(document: Document, way: dict[str, object], pointer: str) -> Iterator[tuple[str, frozenset[str]]]:
    components = as_object(document.data.get("components", {}), "/components")
    known = as_object(components.get("securitySchemes", {}), "/components/securitySchemes")
    for name, scopes in way.items():
        if name not in known:
            raise InvalidContract(f"there is no security scheme {short(name)}", pointer)
        scheme, _ = document.deref(known[name], f"/components/securitySchemes{token(name)}")
        told = " ".join(str(scheme[word]) for word in _SCHEME_WORDS if word in scheme)
        texts = as_list(scopes, pointer + token(name))
        for text in texts:
            if not isinstance(text, str):
                raise InvalidContract(f"a scope is a text, this is {kind_of(text)}", pointer + token(name))
        yield told or name, frozenset(str(text) for text in texts)
