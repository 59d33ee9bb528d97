"""pydantic's errors, in our words and at the right line."""

from __future__ import annotations

from functools import cache
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spinyard.manifest.nearest import did_you_mean
from spinyard.manifest.report import Path, Report
from spinyard.manifest.scalars import Bad, shown

# Said of a field that people bring along from elsewhere.
_ELSEWHERE = {
    "image": "programs of this machine are run: write command",
    "containers": "there are no containers: write command, env and ports directly in template",
    "container": "there are no containers: write command, env and ports directly in template",
    "selector": "leave it out: a Service owns its instances",
    "strategy": "write rollout (canary, blueGreen), or update.rollingUpdate",
    "canary": "write rollout: {type: canary, steps: [...]}",
    "blueGreen": "write rollout: {type: blueGreen}",
    "setWeight": "write weight",
    "autoPromotionEnabled": "write pause in a step: true waits for a person",
    "scaleDownDelaySeconds": "write soak",
    "volumes": "write dataDirectories",
    "volumeMounts": "write dataDirectories",
    "envFrom": "write env, one variable each",
    "requests": "leave it out: nothing is reserved, limits are enforced",
    "initContainers": "write bootstrap",
    "lifecycle": "write bootstrap for the start, and drain for the end",
    "restartPolicy": "leave it out: a Service replaces instances, a Job has retries",
    "backoffLimit": "write retries",
    "activeDeadlineSeconds": "write timeoutSeconds",
    "ttlSecondsAfterFinished": "write ttl",
    "progressDeadlineSeconds": "write it in update.rollingUpdate",
    "secretKeyRef": "write secretFile: a path",
    "configMapKeyRef": "write file: a path",
    "fieldRef": "the program finds its own facts in SPINYARD_ variables",
    "serviceName": "leave it out",
    "host": "write hosts: a list",
    "path": "write pathPrefix",
}
_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
# apiVersion and kind have been looked at before.
_SKIPPED = {("apiVersion",), ("kind",)}


def explain(error: ValidationError, shape: type[BaseModel], report: Report) -> None:
    for detail in error.errors(include_url=False):
        path = _path(detail)
        if path not in _SKIPPED:
            _explain(detail, path, shape, report)


def _path(detail: ErrorDetails) -> Path:
    """pydantic marks the key of a mapping with an extra part."""
    return tuple(part for part in detail["loc"] if part != "[key]")


def _explain(detail: ErrorDetails, path: Path, shape: type[BaseModel], report: Report) -> None:
    kind = detail["type"]
    context = detail.get("ctx", {})
    match kind:
        case "extra_forbidden":
            _unknown_field(path, shape, report)
        case "missing":
            name = str(path[-1])
            report.add(path, "missing_field", f"{name} is missing", _described(shape, path))
        case "value_error":
            bad = context.get("error")
            is_key = detail["loc"][-1] == "[key]"
            if isinstance(bad, Bad):
                report.add(path, bad.code, bad.message, bad.expected, bad.suggestion, at_key=is_key)
            else:
                report.add(path, "invalid_value", detail["msg"], at_key=is_key)
        case "literal_error":
            _not_one_of(detail, path, report)
        case _ if kind in _TYPES:
            _wrong_type(detail, path, report)
        case _:
            report.add(path, _bound_code(kind), f"{shown(detail['input'])}: {_lower(detail['msg'])}")


def _unknown_field(path: Path, shape: type[BaseModel], report: Report) -> None:
    name = str(path[-1])
    known = sorted(known_fields(shape, path[:-1]))
    hint = did_you_mean(name, known) or _ELSEWHERE.get(name, "")
    listed = ", ".join(known[:40])
    report.add(
        path,
        "unknown_field",
        f'there is no field "{name[:80]}"',
        f"one of {listed}" if listed else "",
        hint,
        at_key=True,
    )


def _not_one_of(detail: ErrorDetails, path: Path, report: Report) -> None:
    expected = str(detail.get("ctx", {}).get("expected", "")).replace("True", "true")
    value = detail["input"]
    words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    report.add(path, "invalid_value", f"{shown(value)} is not allowed", expected, hint)


def _wrong_type(detail: ErrorDetails, path: Path, report: Report) -> None:
    """A number where text is wanted is the commonest slip of YAML: say how to write it, with the text of the file."""
    wanted = _TYPES[detail["type"]]
    value = detail["input"]
    node = report.find(path)
    text = node.text if node is not None else None
    hint = ""
    if wanted == "text" and isinstance(value, int | float):
        written = text if text is not None else str(value).lower() if isinstance(value, bool) else str(value)
        hint = f'quote it: "{written}"'
    elif wanted == "true or false" and isinstance(value, str):
        meant = {"yes": "true", "on": "true", "true": "true", "no": "false", "off": "false", "false": "false"}.get(
            value.lower()
        )
        hint = f"write {meant}, without quotes" if meant else ""
    elif wanted in ("a whole number", "a number") and isinstance(value, str):
        hint = _number_hint(value)
    elif wanted == "a list" and isinstance(value, str | int | float):
        hint = f"write [{text if text is not None else value}]"
    elif wanted == "a list" and isinstance(value, dict):
        hint = 'begin each item with "- "'
    report.add(path, "wrong_type", f"got {shown(value)}", wanted, hint)


def _number_hint(value: str) -> str:
    digits = value.lstrip("0") or "0"
    return f"write {digits}, without quotes" if value.isdecimal() else ""


def _bound_code(kind: str) -> str:
    if kind.startswith(("greater", "less", "too_", "string_too", "finite")):
        return "out_of_range"
    return "invalid_value"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# -- the shape at a path ---------------------------------------------------------------------------------------------


def known_fields(shape: type[BaseModel], path: Path) -> frozenset[str]:
    found = _shape_at(shape, path)
    return frozenset(_fields(found)) if found else frozenset()


def _described(shape: type[BaseModel], path: Path) -> str:
    parent = _shape_at(shape, path[:-1])
    info = parent.model_fields.get(_fields(parent).get(str(path[-1]), "")) if parent else None
    return _lower(info.description.rstrip(".")) if info and info.description else ""


@cache
def _fields(shape: type[BaseModel]) -> dict[str, str]:
    return {info.alias or name: name for name, info in shape.model_fields.items()}


def _shape_at(shape: type[BaseModel], path: Path) -> type[BaseModel] | None:
    found: type[BaseModel] | None = shape
    for part in path:
        if isinstance(part, int):
            continue
        info = found.model_fields.get(_fields(found).get(part, "")) if found else None
        found = _model_in(info.annotation) if info else None
    return found


def _model_in(annotation: object) -> type[BaseModel] | None:
    """The shape inside Optional, list and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType, list):
        for inner in get_args(annotation):
            if found := _model_in(inner):
                return found
    return None
