"""Run as a process of its own, never imported by the server: imports the user's code, writes its contract as JSON."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from spinyard.errors import SpinyardError
from spinyard.spinout.contract import CannotExtract, contract_of, is_boundary, leaving


def main() -> None:
    # What the user's code prints is none of our answer.
    with os.fdopen(os.dup(1), "w") as answer:
        os.dup2(2, 1)
        try:
            told: dict[str, Any] = {"document": document_of(sys.argv[1])}
        except SpinyardError as error:
            told = {"problem": _problem(error.message, error.code, error.next_step)}
        json.dump(told, answer)


def document_of(target: str) -> dict[str, Any]:
    """Of `path/file.py` all its boundaries, or its one application; of `module:object` what that is."""
    if target.endswith(".py"):
        return _of_module(_import_file(Path(target)), target)
    name, _, attributes = target.partition(":")
    found: object = _imported(target, lambda: importlib.import_module(name))
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise CannotExtract(f"{name} has no {attributes}", next_step="check the name behind the colon")
        found = getattr(found, attribute)
    return _of_object(found, target)


def _of_object(found: object, target: str) -> dict[str, Any]:
    if isinstance(found, ModuleType):
        return _of_module(found, target)
    if is_boundary(found):
        return contract_of([leaving(found)])
    if _is_application(found):
        return _openapi_of(found, target)
    if isinstance(found, dict):
        return found
    raise CannotExtract(
        f"{target} is a {type(found).__name__}: neither marked with @boundary nor an application with openapi()",
        next_step="name a marked function or class, a FastAPI application, or a dict with an OpenAPI document",
    )


def _of_module(module: ModuleType, target: str) -> dict[str, Any]:
    # A function that has two names in the module is one.
    marked = {id(found): found for found in vars(module).values() if is_boundary(found)}
    if marked:
        return contract_of([leaving(found) for found in marked.values()])
    applications = {id(found): found for found in vars(module).values() if _is_application(found)}
    if len(applications) == 1:
        return _openapi_of(next(iter(applications.values())), target)
    raise CannotExtract(
        f"{target} has no function or class that is marked with @boundary"
        + (f", and {len(applications)} applications" if applications else ""),
        next_step="mark what is to leave, or name one application: module:object",
    )


def _is_application(found: object) -> bool:
    return not isinstance(found, type | ModuleType) and callable(getattr(found, "openapi", None))


def _openapi_of(application: Any, target: str) -> dict[str, Any]:
    document = _imported(target, application.openapi)
    if not isinstance(document, dict):
        raise CannotExtract(f"openapi() of {target} gave a {type(document).__name__}, not a document")
    # Through JSON and back: what it holds may be of classes of its own.
    plain: dict[str, Any] = json.loads(json.dumps(document, default=str))
    return plain


def _import_file(path: Path) -> ModuleType:
    """As a part of its package, when it stands in one: its relative imports then work."""
    path = path.resolve()
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").exists() and root != root.parent:
        names.insert(0, root.name)
        root = root.parent
    sys.path.insert(0, str(root))
    if len(names) > 1:
        if names[-1] == "__init__":
            names.pop()
        found: ModuleType = _imported(str(path), lambda: importlib.import_module(".".join(names)))
        return found
    name = path.stem if path.stem not in sys.modules else f"contract_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CannotExtract(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader = spec.loader
    _imported(str(path), lambda: loader.exec_module(module))
    return module


def _imported(target: str, run: Any) -> Any:
    """Whatever the user's code raises, also by leaving, is told in its own words."""
    try:
        return run()
    except (Exception, SystemExit) as cause:
        frames = traceback.extract_tb(cause.__traceback__)
        last = ([one for one in frames if one.filename == target] or frames)[-1]
        place = f" at {last.filename}:{last.lineno}"
        raise CannotExtract(
            f"importing {target} failed{place}: {type(cause).__name__}: {cause}",
            next_step="its packages must be installed where spinyard is; else give the URL of its OpenAPI document"
            if isinstance(cause, ImportError)
            else "import it by hand and look",
        ) from cause


def _problem(message: str, code: str, next_step: str) -> dict[str, str]:
    return {"message": message, "code": code, "nextStep": next_step}


if __name__ == "__main__":
    main()
