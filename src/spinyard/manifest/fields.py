"""The types of fields: a parser each, and what the published schema says of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from spinyard.manifest import scalars

_DURATION = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": scalars.DURATION_MAX},
        {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+$"},
    ],
    "examples": [30, "90s", "5m", "2h"],
}
_BYTES = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"},
    ],
    "examples": ["256Mi", "1G"],
}
_CORES = {
    "anyOf": [
        {"type": "number", "minimum": 0.001, "maximum": 4096},
        {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?m?$"},
    ],
    "examples": ["500m", 2],
}
_SHARE = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "maximum": 10_000},
        {"type": "string", "pattern": r"^(100|[0-9]{1,2})%$"},
    ],
    "examples": [1, "25%"],
}
_PERCENT = {"type": "number", "minimum": 0.01, "maximum": 100, "examples": [10, 33.33]}
_PAUSE = {"anyOf": [{"type": "boolean"}, *_DURATION["anyOf"]], "examples": ["30s", True]}
_LABEL_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
_TIME = {"type": "string", "format": "date-time"}


def _schema(base: dict[str, object]) -> WithJsonSchema:
    return WithJsonSchema(base)


Duration = Annotated[float, BeforeValidator(scalars.duration), _schema(_DURATION)]
Bytes = Annotated[int, BeforeValidator(scalars.byte_count), _schema(_BYTES)]
Cores = Annotated[float, BeforeValidator(scalars.cores), _schema(_CORES)]
Share = Annotated[int | str, BeforeValidator(scalars.share), _schema(_SHARE)]
Percent = Annotated[float, BeforeValidator(scalars.percent), _schema(_PERCENT)]
Pause = Annotated[float | bool, BeforeValidator(scalars.pause), _schema(_PAUSE)]
Timestamp = Annotated[float, BeforeValidator(scalars.timestamp), _schema(_TIME)]

Text = Annotated[str, AfterValidator(scalars.no_nul), Field(max_length=131_071)]
SomeText = Annotated[str, AfterValidator(scalars.no_nul), Field(min_length=1, max_length=4096)]
Label = Annotated[
    str, AfterValidator(scalars.dns_label), _schema({"type": "string", "pattern": _LABEL_PATTERN, "maxLength": 63})
]
PortName = Annotated[
    str, AfterValidator(scalars.port_name), _schema({"type": "string", "pattern": _LABEL_PATTERN, "maxLength": 63})
]
PortNumber = Annotated[int, Field(ge=1, le=65535)]
PortReference = Annotated[
    str,
    BeforeValidator(scalars.port_reference),
    _schema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 65535}]}),
]
Variable = Annotated[
    str,
    AfterValidator(scalars.variable_name),
    _schema({"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}),
]
LabelKey = Annotated[str, AfterValidator(scalars.label_key)]
LabelValue = Annotated[str, AfterValidator(scalars.label_value)]
Host = Annotated[str, AfterValidator(scalars.route_host), Field(max_length=255)]
Address = Annotated[str, AfterValidator(scalars.endpoint_address), Field(max_length=253)]
HostName = Annotated[
    str, AfterValidator(scalars.host_name), Field(max_length=189), _schema({"type": "string", "maxLength": 189})
]
FileName = Annotated[
    str,
    AfterValidator(scalars.file_name),
    _schema({"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$", "maxLength": 128}),
]
Cron = Annotated[str, AfterValidator(scalars.cron), Field(max_length=200), _schema({"type": "string"})]
UrlPath = Annotated[
    str, AfterValidator(scalars.url_path), Field(max_length=4096), _schema({"type": "string", "pattern": "^/"})
]
HeaderName = Annotated[str, AfterValidator(scalars.header_name), Field(max_length=256)]
CookieName = Annotated[str, AfterValidator(scalars.cookie_name), Field(max_length=256)]
ProbeHost = Annotated[str, AfterValidator(scalars.probe_host), Field(max_length=255)]
HeaderValue = Annotated[str, AfterValidator(scalars.header_value), Field(max_length=8192)]
