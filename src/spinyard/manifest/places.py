"""Relative paths of a file mean its directory: made absolute in the raw data, before anything else looks at it. A
program of a file that names no workingDir runs in that directory too."""

from __future__ import annotations

from posixpath import join, normpath


def is_placed(path: str) -> bool:
    """Absolute, or begins with a variable that is known only in the instance."""
    return path.startswith(("/", "${"))


def place_paths(raw: object, base_dir: str) -> None:
    """workingDir, and the files of env, of whatever template is in `raw`. Changes `raw`; twice is as once."""
    spec = raw.get("spec") if isinstance(raw, dict) else None
    if not isinstance(spec, dict):
        return
    of_its_own = isinstance(raw, dict) and raw.get("kind") == "Template"
    for template in (spec, spec.get("template")):
        if isinstance(template, dict):
            if base_dir and (of_its_own or template is not spec):
                template.setdefault("workingDir", base_dir)
            _place(template, "workingDir", base_dir)
            env = template.get("env")
            for item in env if isinstance(env, list) else ():
                source = item.get("valueFrom") if isinstance(item, dict) else None
                if isinstance(source, dict):
                    _place(source, "file", base_dir)
                    _place(source, "secretFile", base_dir)


def _place(owner: dict[str, object], name: str, base_dir: str) -> None:
    path = owner.get(name)
    if isinstance(path, str) and path and not is_placed(path):
        owner[name] = normpath(join(base_dir, path))
