"""YAML (and so JSON) text to plain data that still knows its lines. Never builds anything but plain data.

An own composer over the parser's events, because PyYAML's recurses in C (deep nesting kills the process), forgets
duplicate keys, and lets a few aliases grow to gigabytes. Plain scalars follow the YAML 1.2 core schema with one
exception to be kind: what YAML 1.1 and 1.2 read differently (yes, no, on, off, 010, 0x1f, 12:30, 1e3) stays text, and
the field that wants a number or boolean says how to write it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import yaml

from spinyard.manifest.objects import PROBLEMS_MAX, Problem

DEPTH_MAX = 32
ALIAS_NODES_MAX = 100_000

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.)(?:[eE][-+][0-9]{1,3})?")
_WORDS: dict[str, object] = {"": None, "~": None} | {
    form: value
    for word, value in (("null", None), ("true", True), ("false", False))
    for form in (word, word.capitalize(), word.upper())
}
_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Node:
    """`value` is the plain data; a null in a mapping counts as not given, as Kubernetes has it."""

    __slots__ = ("children", "column", "keys", "line", "size", "text", "value")

    def __init__(self, value: object, line: int = 0, column: int = 0, text: str | None = None) -> None:
        self.value = value
        self.line = line
        self.column = column
        self.text = text
        self.size = 1
        self.children: dict[str, Node] | list[Node] | None = None
        self.keys: dict[str, tuple[int, int]] = {}


class _Stop(Exception):
    """The rest of the text is not looked at."""


class _Frame:
    __slots__ = ("anchor", "key", "key_mark", "merges", "node", "skip")

    def __init__(self, node: Node, anchor: str | None) -> None:
        self.node = node
        self.anchor = anchor
        self.key: str | None = None
        self.key_mark = (0, 0)
        self.merges: list[Node] = []
        self.skip = False


class Composer:
    """Iterate `documents()`; what is wrong is appended to `problems`."""

    def __init__(self, text: str, source: str, problems: list[Problem]) -> None:
        self._text = text
        self._source = source
        self._problems = problems
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._root: Node | None = None
        self._alias_nodes = 0

    def documents(self) -> Iterator[Node]:
        """One root for each document that is not empty."""
        try:
            for event in yaml.parse(self._text, Loader=_LOADER):
                if isinstance(event, yaml.ScalarEvent):
                    self._scalar(event)
                elif isinstance(event, yaml.CollectionStartEvent):
                    self._open(event, {} if isinstance(event, yaml.MappingStartEvent) else [])
                elif isinstance(event, yaml.CollectionEndEvent):
                    self._close()
                elif isinstance(event, yaml.AliasEvent):
                    self._alias(event)
                elif isinstance(event, yaml.DocumentEndEvent):
                    root, self._root = self._root, None
                    self._anchors.clear()
                    if root is not None and root.value is not None:
                        yield root
        except _Stop:
            return
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            words = ": ".join(part for part in (error.context, error.problem) if part)
            self._syntax(mark, words)
        except (yaml.YAMLError, UnicodeError) as error:
            self._syntax(getattr(error, "mark", None), str(error).splitlines()[0])

    # -- events ------------------------------------------------------------------------------------------------------

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line, column = _mark(event)
        tag = event.tag
        if tag is not None:
            self._check_tag(event)
        is_text = tag in ("!", "tag:yaml.org,2002:str") or (tag is None and not event.implicit[0])
        node = Node(event.value if is_text else resolve(event.value), line, column, event.value)
        self._anchor(event.anchor, node)
        self._attach(node)

    def _open(self, event: yaml.CollectionStartEvent, value: dict[str, object] | list[object]) -> None:
        if len(self._stack) >= DEPTH_MAX:
            self._problem(_mark(event), "too_deep", f"more than {DEPTH_MAX} levels of nesting")
            raise _Stop
        self._check_tag(event)
        node = Node(value, *_mark(event))
        node.children = {} if isinstance(value, dict) else []
        if self._wants_key():
            self._problem(_mark(event), "invalid_key", "a list or mapping cannot be the name of a field", "a name")
            raise _Stop
        self._stack.append(_Frame(node, event.anchor))

    def _close(self) -> None:
        frame = self._stack.pop()
        for merged in frame.merges:
            self._merge(frame.node, merged)
        self._anchor(frame.anchor, frame.node)
        self._attach(frame.node)

    def _alias(self, event: yaml.AliasEvent) -> None:
        node = self._anchors.get(event.anchor or "")
        if node is None:
            inside = any(frame.anchor == event.anchor for frame in self._stack)
            why = "refers to itself" if inside else "has no anchor before it"
            self._problem(_mark(event), "invalid_alias", f"*{event.anchor} {why}")
            raise _Stop
        self._alias_nodes += node.size
        if self._alias_nodes > ALIAS_NODES_MAX:
            self._problem(
                _mark(event),
                "too_many_aliases",
                f"aliases stand for more than {ALIAS_NODES_MAX} values",
                "fewer aliases",
            )
            raise _Stop
        self._attach(node)

    # -- the tree ----------------------------------------------------------------------------------------------------

    def _wants_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node.value, dict) and self._stack[-1].key is None

    def _attach(self, node: Node) -> None:
        if not self._stack:
            self._root = node
            return
        frame = self._stack[-1]
        frame.node.size += node.size
        value, children = frame.node.value, frame.node.children
        if isinstance(value, list):
            assert isinstance(children, list)
            value.append(node.value)
            children.append(node)
        elif frame.key is None:
            self._take_key(frame, node)
        else:
            assert isinstance(value, dict)
            assert isinstance(children, dict)
            key, frame.key = frame.key, None
            if frame.skip:
                frame.skip = False
            elif key == "<<":
                self._take_merge(frame, node)
            else:
                children[key] = node
                frame.node.keys[key] = frame.key_mark
                if node.value is not None:
                    value[key] = node.value

    def _take_key(self, frame: _Frame, node: Node) -> None:
        assert isinstance(frame.node.children, dict)
        frame.key_mark = (node.line, node.column)
        frame.key = node.text or ""
        if not isinstance(node.value, str):
            self._problem(
                frame.key_mark,
                "invalid_key",
                f"the name of a field must be text, not {node.text or 'null'}",
                "text",
                f'write "{node.text}" with quotes' if node.text else "",
            )
            frame.skip = True
        elif frame.key in frame.node.children:
            first = frame.node.keys[frame.key][0]
            self._problem(
                frame.key_mark, "duplicate_field", f'"{frame.key}" is given twice, first in line {first}', "one of them"
            )
            frame.skip = True

    def _take_merge(self, frame: _Frame, node: Node) -> None:
        parts = node.children if isinstance(node.children, list) else [node]
        if not all(isinstance(part.value, dict) for part in parts):
            self._problem((node.line, node.column), "invalid_merge", "<< takes a mapping, or a list of mappings")
            return
        frame.merges += parts

    def _merge(self, into: Node, part: Node) -> None:
        assert isinstance(into.value, dict)
        assert isinstance(into.children, dict)
        assert isinstance(part.children, dict)
        for key, child in part.children.items():
            if key not in into.children:
                into.children[key] = child
                into.keys[key] = part.keys[key]
                if child.value is not None:
                    into.value[key] = child.value

    def _anchor(self, name: str | None, node: Node) -> None:
        if name is not None:
            self._anchors[name] = node

    # -- problems ----------------------------------------------------------------------------------------------------

    def _check_tag(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None and tag != "!" and tag not in _TAGS:
            self._problem(_mark(event), "invalid_tag", f"the tag {tag} is not allowed", "plain values without tags")
            raise _Stop

    def _syntax(self, mark: yaml.Mark | None, words: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        hint = "indent with blanks, not with tabs" if "\\t" in words or "'\t'" in words else ""
        self._problems.append(
            Problem(self._source, line, column, "", "invalid_yaml", f"not valid YAML: {words}", suggestion=hint)
        )

    def _problem(
        self, mark: tuple[int, int], code: str, message: str, expected: str = "", suggestion: str = ""
    ) -> None:
        if len(self._problems) >= PROBLEMS_MAX:
            raise _Stop
        self._problems.append(Problem(self._source, *mark, self._path(), code, message, expected, suggestion))

    def _path(self) -> str:
        parts: list[str | int] = []
        for frame in self._stack:
            if isinstance(frame.node.value, list):
                parts.append(len(frame.node.value))
            elif frame.key is not None:
                parts.append(frame.key)
        return path_text(parts)


def path_text(parts: list[str | int] | tuple[str | int, ...]) -> str:
    """`spec.template.ports[0].name`"""
    out = ""
    for part in parts:
        if isinstance(part, int):
            out += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z0-9_-]+", part):
            out += f".{part}" if out else part
        else:
            out += f'["{part[:80]}"]'
    return out


def resolve(text: str) -> object:
    """The meaning of a plain scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "+-.0123456789":
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


def node_of(value: object, depth: int = 0) -> Node | None:
    """The tree of data that has no lines. None: nested too deeply."""
    if depth > DEPTH_MAX:
        return None
    node = Node(value)
    if isinstance(value, dict):
        children = {str(key): node_of(child, depth + 1) for key, child in value.items()}
        node.value = {key: child.value for key, child in children.items() if child and child.value is not None}
        node.children = {key: child for key, child in children.items() if child}
        return node if len(node.children) == len(children) else None
    if isinstance(value, list | tuple):
        items = [node_of(child, depth + 1) for child in value]
        node.children = [child for child in items if child]
        node.value = [child.value for child in node.children]
        return node if len(node.children) == len(items) else None
    return node


def _mark(event: yaml.Event) -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
