"""What concerns the objects of one text together: the same name twice, and dependencies in a circle."""

from __future__ import annotations

from collections.abc import Mapping

from spinyard.manifest.report import Report

Name = tuple[str, str, str]

_SHOWN_MAX = 20


class Graph:
    """Takes objects as they were written, right or wrong, so that one mistake does not hide another."""

    def __init__(self) -> None:
        self._reports: dict[Name, Report] = {}
        self._needs: dict[Name, list[Name]] = {}

    def add(self, kind: str, raw: Mapping[str, object], report: Report) -> None:
        metadata = raw.get("metadata")
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            return
        namespace = metadata.get("namespace", "default")
        name = (kind, str(namespace), metadata["name"])
        first = self._reports.get(name)
        if first is not None:
            where = f", first in line {first.root.line}" if first.root.line else ""
            message = f'{kind} "{name[2]}" in namespace {name[1]} is given twice{where}'
            report.add(("metadata", "name"), "duplicate_object", message, "one object of a kind, namespace and name")
            return
        self._reports[name] = report
        needs = [(needed, name[1], target) for needed, target in _dependencies(raw)]
        if needs:
            self._needs[name] = needs

    def check_cycles(self) -> None:
        for cycle in _cycles(self._needs):
            names = [f"{kind} {name}" for kind, _, name in cycle]
            if len(names) > _SHOWN_MAX:
                names[_SHOWN_MAX // 2 : -_SHOWN_MAX // 2] = [f"... {len(names) - _SHOWN_MAX} more ..."]
            words = " -> ".join((*names, names[0]))
            report = self._reports[cycle[0]]
            report.add(("spec", "dependsOn"), "dependency_cycle", f"these wait for each other: {words}", "no circle")


def _dependencies(raw: Mapping[str, object]) -> list[tuple[str, str]]:
    spec = raw.get("spec")
    items = spec.get("dependsOn") if isinstance(spec, dict) else None
    found = []
    for item in items if isinstance(items, list) else ():
        if isinstance(item, str):
            found.append(("Service", item))
        elif isinstance(item, dict) and isinstance(item.get("name"), str):
            found.append((str(item.get("kind", "Service")), item["name"]))
    return found


def _cycles(needs: Mapping[Name, list[Name]]) -> list[list[Name]]:
    """One circle for each way back that a depth-first walk meets; iterative, because chains may be long."""
    done: set[Name] = set()
    found: list[list[Name]] = []
    for start in needs:
        if start in done:
            continue
        way = [start]
        position = {start: 0}
        todo = [iter(needs[start])]
        while todo:
            following = next(todo[-1], None)
            if following is None:
                todo.pop()
                last = way.pop()
                del position[last]
                done.add(last)
            elif following in position:
                found.append(way[position[following] :])
            elif following in needs and following not in done:
                position[following] = len(way)
                way.append(following)
                todo.append(iter(needs[following]))
    return found
