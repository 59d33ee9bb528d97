"""The part of a document that a spinout is about: some routes, and only the components that they lead to."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from spinyard.spinout.contract.document import Document, InvalidContract, as_object, read, short
from spinyard.spinout.contract.operations import METHODS, Operation, shape_of_path
from spinyard.spinout.contract.validate import check

Json = dict[str, object]

_METHOD_WORDS = frozenset(METHODS)


def restrict(source: bytes | str | Mapping[str, object], routes: Sequence[str], *, may_lack: bool = False) -> Json:
    """`routes`: `GET /photos/{id}`, or a path alone for all of its methods; none for everything. Names in a path do not
    count. The answer is in a fixed order, without servers and tags: a contract holds wherever the unit runs.

    Raises InvalidContract for a document that is none, and, unless it `may_lack` it, for a route that it does not have.
    """
    document = read(source)
    found = check(document)
    wanted = _wanted(found, routes, may_lack=may_lack) if routes else set(found)
    paths: Json = {}
    for path, raw in sorted(as_object(document.data.get("paths", {}), "/paths").items()):
        methods = {method for shape, method in wanted if shape == shape_of_path(path)}
        if methods and not path.startswith("x-"):
            item, _ = document.deref(raw, "")
            paths[path] = {key: value for key, value in item.items() if key not in _METHOD_WORDS or key in methods}
    out: Json = {"openapi": document.data["openapi"], "info": _info(document)}
    if "security" in document.data:
        out["security"] = document.data["security"]
    out["paths"] = paths
    components = _components(document, out)
    if components:
        out["components"] = components
    return out


def _wanted(
    found: Mapping[tuple[str, str], Operation], routes: Sequence[str], *, may_lack: bool
) -> set[tuple[str, str]]:
    wanted: set[tuple[str, str]] = set()
    for route in routes:
        method, _, path = route.strip().rpartition(" ")
        shape, method = shape_of_path(path.strip()), method.strip().lower()
        keys = {key for key in found if key[0] == shape and method in ("", key[1])}
        if not keys and not may_lack:
            known = [f"{one.method} {one.path}" for one in found.values()]
            near = difflib.get_close_matches(f"{method.upper()} {path}", known, n=1, cutoff=0.3)
            hint = f"did you mean {short(near[0])}?" if near else "it has no operation"
            raise InvalidContract(f"there is no operation {short(route)}", "/paths", next_step=hint)
        wanted |= keys
    return wanted


def _info(document: Document) -> Json:
    given = document.data.get("info")
    info = given if isinstance(given, dict) else {}
    return {"title": str(info.get("title") or "contract"), "version": str(info.get("version") or "1")}


def _components(document: Document, kept: Json) -> Json:
    """What the kept part refers to, and what that refers to."""
    have = as_object(document.data.get("components", {}), "/components")
    names: set[tuple[str, str]] = set()
    stack: list[object] = [kept]
    while stack:
        for section, name in _mentioned(stack.pop()):
            held = have.get(section)
            if isinstance(held, dict) and name in held and (section, name) not in names:
                names.add((section, name))
                stack.append(held[name])
    return {
        section: {name: as_object(have[section], "")[name] for held, name in sorted(names) if held == section}
        for section in sorted({section for section, _ in names})
    }


def _mentioned(value: object) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, list):
            stack += here
        elif isinstance(here, dict):
            stack += here.values()
            texts = [here.get("$ref"), *_mapped(here.get("discriminator"))]
            for text in texts:
                parts = text.split("/") if isinstance(text, str) else []
                if len(parts) >= 4 and parts[:2] == ["#", "components"]:
                    out.append((parts[2], parts[3].replace("~1", "/").replace("~0", "~")))
            security = here.get("security")
            if isinstance(security, list):
                out += [("securitySchemes", name) for way in security if isinstance(way, dict) for name in way]
    return out


def _mapped(discriminator: object) -> list[object]:
    mapping = discriminator.get("mapping") if isinstance(discriminator, dict) else None
    return list(mapping.values()) if isinstance(mapping, dict) else []
