"""Files and bodies that people write, to `core.spec` and back. Importing this imports neither pydantic nor YAML."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spinyard.core.spec import Kind, ObjectSpec, TemplateSpec
from spinyard.manifest.objects import API_VERSION, BYTES_MAX, OBJECTS_MAX, Manifest, Problem

__all__ = [
    "API_VERSION",
    "BYTES_MAX",
    "OBJECTS_MAX",
    "Manifest",
    "Problem",
    "from_json",
    "load",
    "schema",
    "to_json",
    "to_yaml",
]


def load(
    text: str,
    source: str = "file.yaml",
    *,
    bytes_max: int = BYTES_MAX,
    base_dir: str = "",
    read_file: Callable[[str], bytes] | None = None,
) -> tuple[list[Manifest], list[Problem]]:
    """Every object of a YAML or JSON text that is right, and every problem of those that are not.

    `base_dir`: an absolute directory that relative paths (workingDir, files) are taken from; empty: they are refused.
    `read_file`: how the contract of a Spinout is read (absolute path; raises OSError); None: it is refused.
    """
    from spinyard.manifest import read

    return read.load(text, source, bytes_max=bytes_max, base_dir=base_dir, read_file=read_file)


def from_json(obj: object, source: str = "request", *, base_dir: str = "") -> tuple[list[Manifest], list[Problem]]:
    """The same for data that was JSON: one object, or a List. Problems have paths and no lines."""
    from spinyard.manifest import read

    return read.from_json(obj, source, base_dir=base_dir)


def to_json(
    kind: Kind, meta: Mapping[str, object], spec: ObjectSpec, template: TemplateSpec | None = None
) -> dict[str, object]:
    """The published form. `meta` goes in as it is (name, namespace, labels, uid, ...); None and empty parts are left
    out.

    `template` is that of the spec's digest; with a `template_ref` the name is shown instead of it.
    """
    from spinyard.manifest import render

    return render.to_json(kind, meta, spec, template)


def to_yaml(objects: object) -> str:
    """One object as a document, a list of objects as several."""
    from spinyard.manifest import render

    return render.to_yaml(objects)


def schema() -> dict[str, object]:
    """JSON Schema (draft 2020-12) of every kind that may stand in a file."""
    from spinyard.manifest import publish

    return publish.schema()
