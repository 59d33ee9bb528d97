"""The whole comparison: `compare(old, new)`. Pure, bounded, and the same for the same documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from spinyard.spinout.contract.checks import Direction
from spinyard.spinout.contract.document import Document, InvalidContract, canonical, digest, read, short, token
from spinyard.spinout.contract.finding import ContractDiff, Place, in_order
from spinyard.spinout.contract.operations import (
    ANYBODY,
    Answer,
    Media,
    Operation,
    Parameter,
)
from spinyard.spinout.contract.report import Here, Report
from spinyard.spinout.contract.schemas import Schemas
from spinyard.spinout.contract.shape import Shaper
from spinyard.spinout.contract.validate import check
from spinyard.spinout.contract.values import NOTHING

Source = bytes | str | Mapping[str, object]


def compare(old: Source, new: Source) -> ContractDiff:
    """What a caller of `old` would notice of `new`. Raises InvalidContract, with where, for either.

    Bytes and text are YAML or JSON; a mapping is the document itself, and is not changed.
    """
    was, before = _checked(old, "the old contract")
    now, after = _checked(new, "the new contract")
    report = Report()
    _Comparison(report, was, now).run(before, after)
    return ContractDiff(in_order(report.findings), digest(was.data), digest(now.data), dict(report.omitted))


def _checked(source: Source, subject: str) -> tuple[Document, dict[tuple[str, str], Operation]]:
    try:
        document = read(source)
        return document, check(document)
    except InvalidContract as error:
        raise error.of(subject) from error


@dataclass(frozen=True, slots=True)
class _Sides:
    old: Operation
    new: Operation
    place: Place


class _Comparison:
    def __init__(self, report: Report, old: Document, new: Document) -> None:
        self._report = report
        self._documents = (old, new)
        self._shapers = (Shaper(old), Shaper(new))

    def run(self, old: dict[tuple[str, str], Operation], new: dict[tuple[str, str], Operation]) -> None:
        self._whole()
        old_paths, new_paths = {path for path, _ in old}, {path for path, _ in new}
        for path in sorted(old_paths - new_paths):
            one = next(operation for (shape, _), operation in old.items() if shape == path)
            self._say("path-removed", _of_path(one), one.path, NOTHING, f"the path {one.path} is gone")
        for path in sorted(new_paths - old_paths):
            one = next(operation for (shape, _), operation in new.items() if shape == path)
            self._say("path-added", _of_path(one), NOTHING, one.path, f"the path {one.path} is new")
        for key in sorted(key for key in old.keys() | new.keys() if key[0] in old_paths & new_paths):
            if key not in new:
                one = old[key]
                self._say("method-removed", _place(one), one.method, NOTHING, f"{one.method} {one.path} is gone")
            elif key not in old:
                one = new[key]
                self._say("method-added", _place(one), NOTHING, one.method, f"{one.method} {one.path} is new")
            else:
                self._operation(_Sides(old[key], new[key], _place(new[key])))

    def _whole(self) -> None:
        for word in ("servers", "webhooks"):
            was, now = (canonical(one.data.get(word)) for one in self._documents)
            if was != now:
                self._say("not-compared", Place(pointer=f"/{word}"), was, now, f"{word} changed; they are not compared")

    def _operation(self, sides: _Sides) -> None:
        old, new, place = sides.old, sides.new, sides.place
        if new.is_deprecated and not old.is_deprecated:
            self._say("operation-deprecated", place, "in use", "deprecated", "it is marked as deprecated")
        if old.operation_id != new.operation_id:
            was, now = old.operation_id or NOTHING, new.operation_id or NOTHING
            self._say("operation-id-changed", place, was, now, "generated clients name their functions by operationId")
        if old.callbacks != new.callbacks:
            self._say("not-compared", place, old.callbacks, new.callbacks, "callbacks changed; they are not compared")
        self._security(sides)
        self._parameters(sides)
        self._body(sides)
        self._answers(sides)

    # --- who may call -------------------------------------------------------------------------------------------------

    def _security(self, sides: _Sides) -> None:
        old, new = sides.old.security, sides.new.security
        if old == new:
            return
        was, now = _ways_text(old), _ways_text(new)
        place = _below(sides.place, "/security")
        shut = [way for way in old if not any(_suffices(way, other) for other in new)]
        opened = [way for way in new if not any(_suffices(way, other) for other in old)]
        if ANYBODY in shut:
            self._say("security-added", place, was, now, f"anybody could call; now: {now}")
        elif shut:
            self._say("security-tightened", place, was, now, f"let in before and not now: {_ways_text(shut)}")
        if opened:
            self._say("security-loosened", place, was, now, f"let in now and not before: {_ways_text(opened)}")

    # --- requests -----------------------------------------------------------------------------------------------------

    def _parameters(self, sides: _Sides) -> None:
        old, new = sides.old.parameters, sides.new.parameters
        for key in sorted(old.keys() | new.keys()):
            before, after = old.get(key), new.get(key)
            if before is not None and after is not None:
                self._parameter(before, after, sides)
            elif before is not None:
                place = _of_parameter(sides.place, before)
                message = f"the {before.title} is taken and means nothing any more"
                self._say("request-parameter-removed", place, _need(before.is_required), NOTHING, message)
            elif after is not None:
                place = _of_parameter(sides.place, after)
                # Who leaves out a part of the path calls another path: that was told.
                is_required = after.is_required and after.place != "path"
                name = "request-required-parameter-added" if is_required else "request-parameter-added"
                message = f"the {after.title} {'must' if is_required else 'may'} be sent now"
                self._say(name, place, NOTHING, _need(after.is_required), message)

    def _parameter(self, old: Parameter, new: Parameter, sides: _Sides) -> None:
        place = _of_parameter(sides.place, new)
        if old.is_required != new.is_required:
            name = "request-parameter-became-required" if new.is_required else "request-parameter-became-optional"
            was, now = _need(old.is_required), _need(new.is_required)
            self._say(name, place, was, now, f"the {new.title} was {was} and is {now}")
        if old.style != new.style:
            message = f"the {new.title} is written in another way"
            self._say("request-parameter-style-changed", place, old.style, new.style, message)
        self._media(old.media, new.media, Here(self._report, Direction.REQUEST, _below(place, "/schema")))

    def _body(self, sides: _Sides) -> None:
        old, new = sides.old.body, sides.new.body
        place = _below(sides.place, "/requestBody", "body")
        if old is None and new is None:
            return
        if old is None or new is None:
            if new is not None:
                name = "request-required-body-added" if new.is_required else "request-body-added"
                need = _need(new.is_required)
                self._say(name, place, NOTHING, f"{need} body", f"there was no body; now there is one, {need}")
            elif old is not None:
                self._say("request-body-removed", place, f"{_need(old.is_required)} body", NOTHING, "the body is gone")
            return
        if old.is_required != new.is_required:
            name = "request-body-became-required" if new.is_required else "request-body-became-optional"
            was, now = _need(old.is_required), _need(new.is_required)
            self._say(name, place, was, now, f"the body was {was} and is {now}")
        self._content(old.content, new.content, Here(self._report, Direction.REQUEST, place))

    # --- answers ------------------------------------------------------------------------------------------------------

    def _answers(self, sides: _Sides) -> None:
        old, new = sides.old.answers, sides.new.answers
        for status, before in sorted(old.items()):
            after = _answering(status, new)
            place = _of_answer(sides.place, status)
            if after is None:
                name = "response-error-status-removed" if before.is_error else "response-status-removed"
                self._say(name, place, status, NOTHING, f"the answer {status} is gone")
            else:
                self._answer(before, after, place)
        for status, after in sorted(new.items()):
            if _answering(status, old) is None:
                name = "response-error-status-added" if after.is_error else "response-status-added"
                self._say(name, _of_answer(sides.place, status), NOTHING, status, f"the answer {status} is new")

    def _answer(self, old: Answer, new: Answer, place: Place) -> None:
        here = Here(self._report, Direction.RESPONSE, _below(place, "", "body"))
        self._content(old.content, new.content, here)
        for name in sorted(old.headers.keys() | new.headers.keys()):
            before, after = old.headers.get(name), new.headers.get(name)
            shown = before.name if before is not None else after.name if after is not None else name
            inside = _below(place, f"/headers{token(shown)}", f"header {shown}")
            if before is not None and after is not None:
                if before.is_required != after.is_required:
                    check_id = f"response-header-became-{_need(after.is_required)}"
                    was, now = _need(before.is_required), _need(after.is_required)
                    self._say(check_id, inside, was, now, f"the header {shown} was {was} and is {now}")
                self._media(
                    before.media, after.media, Here(self._report, Direction.RESPONSE, _below(inside, "/schema"))
                )
            elif before is not None:
                self._say("response-header-removed", inside, shown, NOTHING, f"the header {shown} is gone")
            else:
                self._say("response-header-added", inside, NOTHING, shown, f"the header {shown} is new")

    # --- content ------------------------------------------------------------------------------------------------------

    def _content(self, old: Mapping[str, Media], new: Mapping[str, Media], here: Here) -> None:
        for name, before in sorted(old.items()):
            found = _media_for(name, new)
            inside = here.at(f"/content{token(name)}")
            if found is None:
                inside.say("media-type-removed", name, _names(new), f"{name} is gone")
            else:
                self._media(before, new[found], inside.at("/schema"))
        for name in sorted(new):
            if _media_for(name, old) is None:
                here.at(f"/content{token(name)}").say("media-type-added", _names(old), name, f"{name} is new")

    def _media(self, old: Media, new: Media, here: Here) -> None:
        before, after = self._shapers
        schemas = Schemas(before, after)
        schemas.compare(before.node(old.schema, old.pointer), after.node(new.schema, new.pointer), here)

    def _say(self, name: str, place: Place, was: object, now: object, message: str) -> None:
        self._report.say(name, place, was, now, message)


def _of_path(operation: Operation) -> Place:
    return Place(path=operation.path, pointer=f"/paths{token(operation.path)}")


def _place(operation: Operation) -> Place:
    return Place(path=operation.path, method=operation.method, pointer=operation.pointer)


def _of_parameter(place: Place, parameter: Parameter) -> Place:
    pointer = parameter.pointer.removeprefix(place.pointer)
    if pointer == parameter.pointer:  # it stands above the operation, for all methods of its path
        return Place(place.path, place.method, "", pointer, f"{parameter.place} {parameter.name}")
    return _below(place, pointer, f"{parameter.place} {parameter.name}")


def _of_answer(place: Place, status: str) -> Place:
    return Place(place.path, place.method, status, f"{place.pointer}/responses/{status}", place.field)


def _below(place: Place, pointer: str, field: str = "") -> Place:
    return Place(place.path, place.method, place.status, place.pointer + pointer, place.field + field)


def _need(is_required: bool) -> str:
    return "required" if is_required else "optional"


def _answering(status: str, answers: Mapping[str, Answer]) -> Answer | None:
    """The answer that holds for a status: itself, its hundred, or the default."""
    for candidate in (status, f"{status[0]}XX", "default"):
        if candidate in answers:
            return answers[candidate]
    return None


def _media_for(name: str, content: Mapping[str, Media]) -> str | None:
    for candidate in (name, f"{name.partition('/')[0]}/*", "*/*"):
        if candidate in content:
            return candidate
    return None


def _names(content: Mapping[str, Media]) -> str:
    return ", ".join(sorted(content)) or NOTHING


Way = frozenset[tuple[str, frozenset[str]]]


def _suffices(has: Way, wanted: Way) -> bool:
    """Whether somebody who was let in by `has` is let in by `wanted`."""
    have = dict(has)
    return all(scheme in have and scopes <= have[scheme] for scheme, scopes in wanted)


def _ways_text(ways: frozenset[Way] | list[Way]) -> str:
    texts = [" and ".join(_scheme_text(*one) for one in sorted(way, key=str)) or "anybody" for way in ways]
    return short(" or ".join(sorted(texts)), 300)


def _scheme_text(scheme: str, scopes: frozenset[str]) -> str:
    return f"{scheme} ({', '.join(sorted(scopes))})" if scopes else scheme
