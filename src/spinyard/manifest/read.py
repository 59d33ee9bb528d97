"""Text or JSON data in, manifests and every problem out."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydantic import ValidationError

from spinyard.manifest import checks, graph, job_checks, pool_checks, rollout_checks, spinout_checks, spinout_contract
from spinyard.manifest.compose import Composer, Node, node_of
from spinyard.manifest.convert import convert
from spinyard.manifest.envelope import check_envelope
from spinyard.manifest.explain import explain
from spinyard.manifest.kinds import SHAPES
from spinyard.manifest.objects import BYTES_MAX, OBJECTS_MAX, PROBLEMS_MAX, Manifest, Problem
from spinyard.manifest.places import place_paths
from spinyard.manifest.report import Report
from spinyard.manifest.spinout_contract import ReadFile


def load(
    text: str,
    source: str = "file.yaml",
    *,
    bytes_max: int = BYTES_MAX,
    base_dir: str = "",
    read_file: ReadFile | None = None,
) -> tuple[list[Manifest], list[Problem]]:
    problems: list[Problem] = []
    size = len(text.encode(errors="replace"))
    if size > bytes_max:
        message = f"the text has {size} bytes"
        problems.append(Problem(source, 1, 1, "", "too_large", message, f"at most {bytes_max} bytes", "split it"))
        return [], problems
    manifests = _load(Composer(text, source, problems).documents(), source, problems, base_dir, read_file)
    if not manifests and any(problem.code == "invalid_yaml" for problem in problems):
        return _load_json(text, source, base_dir) or ([], problems)
    return manifests, problems


def _load_json(text: str, source: str, base_dir: str) -> tuple[list[Manifest], list[Problem]] | None:
    """JSON that YAML does not read (such as surrogate pairs): without lines, but not refused."""
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return None
    try:
        return from_json(json.loads(text), source, base_dir=base_dir)
    except (ValueError, RecursionError):
        return None


def from_json(obj: object, source: str = "request", *, base_dir: str = "") -> tuple[list[Manifest], list[Problem]]:
    root = node_of(obj)
    if root is None:
        return [], [Problem(source, 0, 0, "", "too_deep", "the data is nested too deeply")]
    problems: list[Problem] = []
    return _load(iter([root]), source, problems, base_dir), problems


def _load(
    documents: Iterator[Node],
    source: str,
    problems: list[Problem],
    base_dir: str,
    read_file: ReadFile | None = None,
) -> list[Manifest]:
    manifests: list[Manifest] = []
    seen = graph.Graph()
    for count, report in enumerate(_objects(documents, source, problems), start=1):
        if count > OBJECTS_MAX:
            report.add((), "too_many", f"more than {OBJECTS_MAX} objects", f"at most {OBJECTS_MAX}", "split it")
            break
        if len(problems) >= PROBLEMS_MAX:
            break
        manifest = _object(report, seen, base_dir, read_file)
        if manifest is not None:
            manifests.append(manifest)
    seen.check_cycles()
    problems.sort(key=lambda problem: (problem.line, problem.column))
    if len(problems) >= PROBLEMS_MAX:
        message = f"only the first {PROBLEMS_MAX} problems are told; there may be more"
        problems.append(Problem(source, 0, 0, "", "too_many_problems", message))
    return manifests


def _objects(documents: Iterator[Node], source: str, problems: list[Problem]) -> Iterator[Report]:
    """The objects of each document; a List, as `get -o yaml` writes it, is taken apart."""
    known = len(problems)
    for root in documents:
        is_whole = len(problems) == known
        items = root.children.get("items") if isinstance(root.children, dict) else None
        kind = root.value.get("kind") if isinstance(root.value, dict) else None
        if kind == "List" and items is not None and isinstance(items.children, list):
            for index, item in enumerate(items.children):
                yield Report(source, item, problems, ("items", index), is_whole=is_whole)
        else:
            yield Report(source, root, problems, is_whole=is_whole)
        known = len(problems)


def _object(report: Report, seen: graph.Graph, base_dir: str, read_file: ReadFile | None) -> Manifest | None:
    before = len(report.problems)
    raw = report.root.value
    kind = check_envelope(report)
    if kind is None or not isinstance(raw, dict):
        return None
    if base_dir:
        place_paths(raw, base_dir)
    if kind == "Spinout":
        spinout_contract.inline(raw, report, base_dir, read_file)
    seen.add(kind, raw, report)
    shape_type = SHAPES[kind]
    try:
        shape = shape_type.model_validate(raw)
    except ValidationError as error:
        explain(error, shape_type, report)
        shape = None
    _check(kind, raw, report)
    if shape is None or len(report.problems) > before or not report.is_whole:
        return None
    found = convert(shape)
    metadata = shape.metadata
    return Manifest(
        kind=found.kind,
        namespace=metadata.namespace,
        name=metadata.name,
        spec=found.spec,
        labels=metadata.labels,
        annotations=metadata.annotations,
        templates=found.templates,
        template_ref=found.template_ref,
        source=report.source,
        line=report.root.line,
        body=raw,
    )


def _check(kind: str, raw: checks.Raw, report: Report) -> None:
    match kind:
        case "WarmPool":
            pool_checks.check_pool(raw, report)
        case "Claim":
            pool_checks.check_claim(raw, report)
        case "Service":
            checks.check_object(kind, raw, report)
            rollout_checks.check_rollout(raw, report)
        case "Job":
            checks.check_object(kind, raw, report)
            job_checks.check_job(raw, report)
        case "Spinout":
            spinout_checks.check_spinout(raw, report)
            spinout_contract.check_text(raw, report)
        case _:
            checks.check_object(kind, raw, report)
