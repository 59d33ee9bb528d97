"""State machines as data: a guard at commit, the source of the diagrams, and what tests walk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """`edges[state]` are the states that may follow it; staying is always allowed."""

    name: str
    initial: str
    terminal: frozenset[str]
    edges: Mapping[str, frozenset[str]]

    def may(self, before: str, after: str) -> bool:
        return before == after or after in self.edges.get(before, frozenset())

    def reachable(self) -> frozenset[str]:
        seen = {self.initial}
        todo = [self.initial]
        while todo:
            for after in self.edges.get(todo.pop(), frozenset()):
                if after not in seen:
                    seen.add(after)
                    todo.append(after)
        return frozenset(seen)

    def states(self) -> tuple[str, ...]:
        """Initial first, then in order of first mention."""
        out = dict.fromkeys([self.initial])
        for before, afters in self.edges.items():
            out[before] = None
            out.update(dict.fromkeys(sorted(afters)))
        return tuple(out)

    def mermaid(self) -> str:
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        for before, afters in self.edges.items():
            lines += [f"    {before} --> {after}" for after in sorted(afters)]
        lines += [f"    {state} --> [*]" for state in sorted(self.terminal)]
        return "\n".join(lines) + "\n"


def edges(pairs: Mapping[str, Iterable[str]]) -> Mapping[str, frozenset[str]]:
    return {before: frozenset(afters) for before, afters in pairs.items()}
