"""A function of a boundary, and how its arguments, result and exceptions travel: as JSON, by its type hints (msgspec:
builtins, dataclasses, Structs, TypedDicts, enums, dates, UUIDs, Decimals; bytes as base64).

Arguments are one object by parameter name; `*args` is an array of that name, `**kwargs` an object.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from spinyard_sdk.failures import NotTyped
from spinyard_sdk.wire import PROBLEMS

KeyOf = Callable[..., Any]
RAISED: Final = PROBLEMS + "raised/"
"""the type of a problem that is a declared exception; the name of its class follows"""
STATE_VALUES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Boundary:
    """`__spinyard_boundary__` of what is decorated: for who writes a contract from it. `functions`: the undecorated
    functions by the name in their path, `/{boundary}/{function}`; of a class its public methods, with `self`."""

    name: str
    functions: Mapping[str, Callable[..., Any]]


@dataclass(frozen=True, slots=True)
class Function:
    """`call`: as it was written. `raises`: exceptions that are part of its contract. `safe`: changes nothing, so it may
    run on both sides. `idempotent`: twice is as once. `bound`: a method, its first argument stays where it is."""

    boundary: str
    name: str
    call: Callable[..., Any]
    key: KeyOf | None
    raises: tuple[type[Exception], ...] = ()
    safe: bool = False
    idempotent: bool = False
    timeout_seconds: float = 10.0
    bound: bool = False

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.call)

    def key_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Empty when there is none that could stand in a header. Raises whatever the program's own function raises."""
        if self.key is None:
            return ""
        found = self.key(*(args[1:] if self.bound else args), **kwargs)
        key = found if isinstance(found, str) else "" if found is None else str(found)
        return key if key.isascii() and key.isprintable() and key == key.strip() else ""


class Codec:
    """For one function; made when it is first needed, since hints may name what is defined later. Raises NotTyped."""

    def __init__(self, function: Function) -> None:
        call = function.call
        where = f"{call.__module__}.{call.__qualname__}"
        parameters = list(inspect.signature(call).parameters.values())
        self._own = parameters[1:] if function.bound else parameters
        self._signature = inspect.Signature(self._own)
        self._raises = {kind.__name__: kind for kind in function.raises}
        try:
            hints = typing.get_type_hints(call, include_extras=True)
            fields = [_field(parameter, hints) for parameter in self._own]
            # A field by any name, also one that a Struct would not take.
            named = [(f"a{number}", kind, default) for number, (_, kind, default) in enumerate(fields)]
            self._attributes = tuple((one.name, f"a{number}") for number, one in enumerate(self._own))
            rename = {attribute: name for name, attribute in self._attributes}
            self._arguments = msgspec.defstruct(
                "Arguments", named, kw_only=True, forbid_unknown_fields=True, rename=rename.get
            )
            # A type that msgspec does not know it would encode and decode as it is: its schema says that there is none.
            msgspec.json.schema_components([self._arguments, hints["return"]])
            self._decoder = msgspec.json.Decoder(self._arguments)
            self._result = msgspec.json.Decoder(hints["return"])
        except (KeyError, NameError, TypeError) as error:
            missing = f"a hint is missing: {error.args[0]}" if isinstance(error, KeyError) else str(error)
            raise NotTyped(f"{where} cannot be called over a boundary: {missing}") from error

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        """Without the bound first argument. Raises TypeError for arguments that do not fit, or have no form in JSON."""
        found = self._signature.bind(*args, **kwargs).arguments
        try:
            return msgspec.json.encode(found)
        except (ValueError, OverflowError, RecursionError) as error:
            raise TypeError(str(error)) from error

    def decode(self, body: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Raises msgspec.ValidationError, msgspec.DecodeError."""
        found = self._decoder.decode(body or b"{}")
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        is_gap = False
        for parameter, (name, attribute) in zip(self._own, self._attributes, strict=True):
            value = getattr(found, attribute)
            if value is msgspec.UNSET:
                # Left out, so its default is the function's own, also one that JSON has no form for.
                is_gap = True
                continue
            if parameter.kind is parameter.VAR_POSITIONAL:
                args += value
            elif parameter.kind is parameter.VAR_KEYWORD:
                kwargs |= value
            elif parameter.kind is parameter.KEYWORD_ONLY or is_gap:
                kwargs[name] = value
            else:
                args.append(value)
        return tuple(args), kwargs

    def encode_result(self, value: Any) -> bytes:
        """Raises TypeError."""
        try:
            return msgspec.json.encode(value)
        except (ValueError, OverflowError, RecursionError) as error:
            raise TypeError(str(error)) from error

    def decode_result(self, body: bytes) -> Any:
        """Raises msgspec.ValidationError, msgspec.DecodeError."""
        return self._result.decode(body)

    def encode_exception(self, error: Exception) -> dict[str, Any] | None:
        """The extra members of its problem document; None for one that is not declared. What of it has no form in JSON
        stays behind."""
        for kind in type(error).__mro__:
            if self._raises.get(kind.__name__) is kind:
                state = {name: value for name, value in list(vars(error).items())[:STATE_VALUES_MAX] if _travels(value)}
                return {
                    "type": RAISED + kind.__name__,
                    "args": [value if _travels(value) else str(value) for value in error.args],
                    "state": state,
                }
        return None

    def decode_exception(self, problem: Mapping[str, Any]) -> Exception | None:
        kind = self._raises.get(str(problem.get("type", "")).removeprefix(RAISED))
        args, state = problem.get("args"), problem.get("state")
        if kind is None or not isinstance(args, list) or not isinstance(state, dict):
            return None
        # Not by its constructor, which may want other arguments than those that it gave to Exception.
        error: Exception = kind.__new__(kind)
        error.args = tuple(args)
        vars(error).update(state)
        return error


def codec_of(function: Function) -> Codec:
    """Raises NotTyped."""
    found = _codec_of(function)
    if isinstance(found, NotTyped):
        raise found
    return found


@functools.cache
def _codec_of(function: Function) -> Codec | NotTyped:
    try:
        return Codec(function)
    except NotTyped as error:
        return error


def _field(parameter: inspect.Parameter, hints: Mapping[str, Any]) -> tuple[str, Any, Any]:
    hint: Any = hints[parameter.name]
    if parameter.kind is parameter.VAR_POSITIONAL:
        return parameter.name, types.GenericAlias(list, (hint,)) | msgspec.UnsetType, msgspec.UNSET
    if parameter.kind is parameter.VAR_KEYWORD:
        return parameter.name, types.GenericAlias(dict, (str, hint)) | msgspec.UnsetType, msgspec.UNSET
    if parameter.default is parameter.empty:
        return parameter.name, hint, msgspec.NODEFAULT
    return parameter.name, hint | msgspec.UnsetType, msgspec.UNSET


def _travels(value: Any) -> bool:
    """Only what comes back as it was."""
    try:
        return bool(msgspec.json.decode(msgspec.json.encode(value)) == value)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return False
