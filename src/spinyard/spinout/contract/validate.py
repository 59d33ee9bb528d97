"""A document is looked at as a whole before it is compared: what is wrong with it does not depend on the other."""

from __future__ import annotations

from collections.abc import Iterator

from spinyard.spinout.contract.document import Document
from spinyard.spinout.contract.operations import Media, Operation, operations
from spinyard.spinout.contract.shape import Node, Shape, Shaper


def check(document: Document) -> dict[tuple[str, str], Operation]:
    """Its operations. Raises InvalidContract for what is wrong with any of them, or a schema that they lead to."""
    found = operations(document)
    shaper = Shaper(document)
    seen: set[tuple[frozenset[int], frozenset[int]]] = set()
    for operation in found.values():
        for media in _media(operation):
            stack = [shaper.node(media.schema, media.pointer)]
            while stack:
                node = stack.pop()
                if node.key not in seen:
                    seen.add(node.key)
                    stack += _inside(shaper.shape(node))
    return found


def _media(operation: Operation) -> Iterator[Media]:
    for parameter in operation.parameters.values():
        yield parameter.media
    if operation.body is not None:
        yield from operation.body.content.values()
    for answer in operation.answers.values():
        yield from answer.content.values()
        for header in answer.headers.values():
            yield header.media


def _inside(shape: Shape) -> Iterator[Node]:
    for node, alternative in shape.alternatives:
        yield node
        yield from _inside(alternative)
    yield from shape.properties.values()
    yield from shape.prefix
    if shape.items is not None:
        yield shape.items
    if isinstance(shape.additional, Node):
        yield shape.additional
