"""Where problems of one object are collected, with the line of the node that offends."""

from __future__ import annotations

from spinyard.manifest.compose import Node, path_text
from spinyard.manifest.objects import PROBLEMS_MAX, Problem

Path = tuple[str | int, ...]


class Report:
    """`prefix` is where the object is inside its document; a path names a place inside the object.

    `is_whole`: the document was read without loss (no field given twice, and the like).
    """

    def __init__(
        self, source: str, root: Node, problems: list[Problem], prefix: Path = (), *, is_whole: bool = True
    ) -> None:
        self.source = source
        self.root = root
        self.problems = problems
        self.prefix = prefix
        self.is_whole = is_whole

    def add(
        self, path: Path, code: str, message: str, expected: str = "", suggestion: str = "", *, at_key: bool = False
    ) -> None:
        if len(self.problems) >= PROBLEMS_MAX:
            return
        line, column = self._place(path, at_key)
        text = path_text(self.prefix + path)
        self.problems.append(Problem(self.source, line, column, text, code, message, expected, suggestion))

    def find(self, path: Path) -> Node | None:
        node: Node | None = self.root
        for part in path:
            node = _child(node, part) if node is not None else None
        return node

    def _place(self, path: Path, at_key: bool) -> tuple[int, int]:
        """Of the value, or of its key; as near as the file has anything of it."""
        node = self.root
        place = (node.line, node.column)
        for index, part in enumerate(path):
            child = _child(node, part)
            if child is None:
                break
            is_key = at_key and index == len(path) - 1 and isinstance(part, str)
            place = node.keys.get(str(part), place) if is_key else (child.line, child.column)
            node = child
        return place


def _child(node: Node, part: str | int) -> Node | None:
    children = node.children
    if isinstance(children, dict):
        return children.get(str(part))
    if isinstance(children, list) and isinstance(part, int) and 0 <= part < len(children):
        return children[part]
    return None
