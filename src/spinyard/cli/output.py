"""Objects as json, yaml or names: the machine-readable side of every command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from spinyard.cli.streams import is_printable, is_utf8, json_text

Json = Mapping[str, Any]

API_VERSION = "spinyard.dev/v1"


def list_of(items: Sequence[Json], resource_version: str = "") -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "List",
        "items": list(items),
        "metadata": {"continue": "", "resourceVersion": resource_version},
    }


def print_data(data: object, output: str) -> None:
    if output == "yaml":
        import yaml

        plain = _plain(data)
        text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False)
        if not is_printable(text) or not is_utf8(sys.stdout):
            text = yaml.safe_dump(plain, sort_keys=False, default_flow_style=False)
        sys.stdout.write(text)
    else:
        sys.stdout.write(_dumped(data, indent=2) + "\n")


def print_line(data: object) -> None:
    """One JSON value per line, for streams."""
    print(_dumped(data), flush=True)


def _dumped(data: object, *, indent: int | None = None) -> str:
    return json_text(json.dumps(data, indent=indent, ensure_ascii=not is_utf8(sys.stdout)))


def reference(item: Json) -> str:
    """`service/web`: what other commands take."""
    return f"{str(item.get('kind', '')).lower()}/{dig(item, 'metadata', 'name') or ''}"


def dig(data: object, *path: str) -> Any:
    """data[path[0]][path[1]]…, or None as soon as something is missing."""
    for part in path:
        if not isinstance(data, Mapping):
            return None
        data = data.get(part)
    return data


def state_of(item: Json) -> str:
    """The one word for an object's state, as the server says it."""
    return str(dig(item, "status", "state") or "-")


def is_deleting(item: Json) -> bool:
    return bool(dig(item, "metadata", "deletionTimestamp"))


def condition(item: Json, name: str) -> Json | None:
    conditions = dig(item, "status", "conditions") or []
    return next((one for one in conditions if str(one.get("type", "")).lower() == name.lower()), None)


def _plain(data: object) -> Any:
    """Without ints and strings of subclasses, which yaml would tag."""
    return json.loads(json.dumps(data))
