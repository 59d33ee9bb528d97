"""The JSON Schema that editors complete and check by. Made from the shapes; what concerns several fields is in words
of JSON Schema only where that stays readable."""

from __future__ import annotations

from pydantic.json_schema import models_json_schema

from spinyard.manifest.kinds import SHAPES

_ID = "https://spinyard.dev/schema/v1.json"


def schema() -> dict[str, object]:
    references, definitions = models_json_schema(
        [(shape, "validation") for shape in SHAPES.values()], ref_template="#/$defs/{model}"
    )
    found = definitions["$defs"]
    _exactly_one(found["ProbeShape"], "httpGet", "tcpSocket", "grpc", "exec")
    _exactly_one(found["SmokeTestShape"], "httpGet", "exec")
    _exactly_one(found["ValueFromShape"], "file", "variable", "secretFile")
    _exactly_one(found["JobSpecShape"], "template", "templateRef", "pool")
    _exactly_one(found["ServiceSpecShape"], "template", "templateRef", "external")
    _exactly_one(found["WarmPoolSpecShape"], "template", "templateRef")
    _exactly_one(found["OnClaimShape"], "httpGet", "exec")
    _exactly_one(found["StickyShape"], "header", "cookie", "clientAddress")
    _exactly_one(found["ContractShape"], "file", "text")
    _exactly_one(found["ThresholdShape"], "max", "min")
    _any_of(found["LatencyGoalShape"], "maxRatio", "plus", "max")
    _routes_as_text(found["BoundaryShape"])
    _shadow_as_switch(found["SpinoutSpecShape"])
    found["LatencyLimitShape"]["anyOf"] = [{"required": ["max"]}, {"required": ["maxRatio"]}]
    _commands(found)
    _strings_as_dependencies(found)
    _maps_as_variables(found)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": _ID,
        "title": "Spinyard objects",
        "type": "object",
        "oneOf": [references[(shape, "validation")] for shape in SHAPES.values()],
        "$defs": {name: _plain(found[name]) for name in sorted(found)},
    }


def _exactly_one(definition: dict[str, object], *names: str) -> None:
    definition["oneOf"] = [{"required": [name]} for name in names]


def _commands(found: dict[str, dict[str, object]]) -> None:
    """A template needs a command; the shapes leave it to the checks, which say it better."""
    for name in ("TemplateShape", "NamedTemplateSpecShape"):
        definition = found[name]
        definition["required"] = ["command"]
        properties = definition["properties"]
        assert isinstance(properties, dict)
        properties["command"] = {**properties["command"], "minItems": 1}


def _strings_as_dependencies(found: dict[str, dict[str, object]]) -> None:
    for name in ("ServiceSpecShape", "JobSpecShape"):
        properties = found[name]["properties"]
        assert isinstance(properties, dict)
        reference = {"$ref": "#/$defs/DependencyShape"}
        properties["dependsOn"]["items"] = {"anyOf": [reference, {"type": "string", "description": "A Service."}]}


def _maps_as_variables(found: dict[str, dict[str, object]]) -> None:
    for shape in ("ClaimSpecShape", "JobSpecShape"):
        properties = found[shape]["properties"]
        assert isinstance(properties, dict)
        given = properties["env"]
        as_map = {"type": "object", "additionalProperties": {"type": "string"}}
        kept = {name: item for name, item in given.items() if name == "description"}
        as_list = {name: item for name, item in given.items() if name not in ("description", "default")}
        properties["env"] = {"anyOf": [as_list, as_map], **kept}


def _any_of(definition: dict[str, object], *names: str) -> None:
    definition["anyOf"] = [{"required": [name]} for name in names]


def _routes_as_text(definition: dict[str, object]) -> None:
    properties = definition["properties"]
    assert isinstance(properties, dict)
    as_text = {"type": "string", "pattern": "^([A-Z]+ +)?/", "examples": ["GET /photos/{id}/thumb"]}
    properties["routes"]["items"] = {"anyOf": [properties["routes"]["items"], as_text]}


def _shadow_as_switch(definition: dict[str, object]) -> None:
    properties = definition["properties"]
    assert isinstance(properties, dict)
    given = properties["shadow"]
    kept = {name: item for name, item in given.items() if name in ("description", "default")}
    as_fields = {name: item for name, item in given.items() if name not in kept}
    properties["shadow"] = {"anyOf": [as_fields, {"type": "boolean"}], **kept}


def _plain(value: object) -> object:
    """Without the null alternatives and titles that pydantic writes for optional fields: null is `not given`."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _plain(item) for name, item in value.items() if not _is_noise(name, item)}
    options = found.get("anyOf")
    if isinstance(options, list) and {"type": "null"} in options:
        left = [option for option in options if option != {"type": "null"}]
        del found["anyOf"]
        found = {**left[0], **found} if len(left) == 1 else {"anyOf": left, **found}
    return found


def _is_noise(name: str, item: object) -> bool:
    return (name == "title" and isinstance(item, str)) or (name == "default" and item is None)
