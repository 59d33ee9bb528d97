"""Files and bodies that people write, to `core.spec` and back. Importing this imports neither pydantic nor YAML."""

from __future__ import annotations

from spinyard.manifest.objects import API_VERSION, BYTES_MAX, OBJECTS_MAX, Manifest, Problem

__all__ = [
    "API_VERSION",
    "BYTES_MAX",
    "OBJECTS_MAX",
    "Manifest",
    "Problem",
    "from_json",
    "load",
]


def load(
    text: str, source: str = "file.yaml", *, bytes_max: int = BYTES_MAX, base_dir: str = ""
) -> tuple[list[Manifest], list[Problem]]:
    """Every object of a YAML or JSON text that is right, and every problem of those that are not.

    `base_dir`: an absolute directory that relative paths (workingDir, files) are taken from; empty: they are refused.
    """
    from spinyard.manifest import read

    return read.load(text, source, bytes_max=bytes_max, base_dir=base_dir)


def from_json(obj: object, source: str = "request", *, base_dir: str = "") -> tuple[list[Manifest], list[Problem]]:
    """The same for data that was JSON: one object, or a List. Problems have paths and no lines."""
    from spinyard.manifest import read

    return read.from_json(obj, source, base_dir=base_dir)
