"""`@boundary`: what is to leave a program, marked in the program.

    @boundary("thumbnails", key=lambda photo_id, size: photo_id, raises=(NoSuchPhoto,), safe=True)
    def render(photo_id: str, size: int) -> bytes: ...

The name is that of the Spinout. A call runs here, in the unit, or here with a comparison beside it, decided for each
call by its key. No request is lost in silence or done twice: what was sent and not answered is an error, unless
`idempotent=True` says that twice is as once; what was provably not carried out runs here in the same call.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from spinyard_sdk import tracing
from spinyard_sdk.context import REQUEST, Request, remaining
from spinyard_sdk.exchange import Call, Lost, NotSent, exchange, exchange_async
from spinyard_sdk.failures import DeadlineExceeded, NotTyped, RemoteError
from spinyard_sdk.functions import Boundary, Codec, Function, KeyOf, codec_of
from spinyard_sdk.remote import Failed, Local, Outcome, Raised, Returned, make_call, read_answer, read_failure
from spinyard_sdk.shadow import COMPARISONS, samples
from spinyard_sdk.sides import Choice, Counts, Mode, State, choose, counts, state_of, wait_ready

__all__ = [
    "Boundary",
    "Counts",
    "DeadlineExceeded",
    "NotTyped",
    "RemoteError",
    "boundary",
    "counts",
    "samples",
    "wait_ready",
]

T = TypeVar("T")
ATTRIBUTE: Final = "__spinyard_boundary__"
FUNCTION: Final = "__spinyard_function__"
TIMEOUT_SECONDS: Final = 10.0
_HERE: Final = object()


def boundary(
    name: str,
    *,
    key: KeyOf | None = None,
    raises: Sequence[type[Exception]] = (),
    safe: bool | Sequence[str] = False,
    idempotent: bool | Sequence[str] = False,
    timeout: float = TIMEOUT_SECONDS,
) -> Callable[[T], T]:
    """For a function, or for a class: all its public methods.

    `name`: the Spinout, `namespace/name` outside of `default`. `key`: from the arguments (without `self`) to what
    decides the side; None: the key of the request (context.AsgiRequests, WsgiRequests). `raises`: exceptions that
    belong to the contract; others come back as RemoteError. `safe`: changes nothing, so it may run on both sides to be
    compared.
    `idempotent`: may be repeated. Both are True, or the names of the methods for which they hold. `timeout`: seconds
    for a remote call; a deadline of the request that is sooner holds.

    Raises NotTyped for a function without type hints, a generator, or a class without public methods.
    """
    state = state_of(name)

    def decorate(thing: T) -> T:
        def function(called: str, call: Callable[..., Any], *, bound: bool) -> Function:
            made = Function(
                boundary=name,
                name=called,
                call=call,
                key=key,
                raises=tuple(raises),
                safe=safe if isinstance(safe, bool) else called in safe,
                idempotent=idempotent if isinstance(idempotent, bool) else called in idempotent,
                timeout_seconds=timeout,
                bound=bound,
            )
            _check_hints(made)
            return made

        if isinstance(thing, type):
            methods = {n: function(n, c, bound=bound) for n, (c, bound) in _public_methods(thing).items()}
            if not methods:
                raise NotTyped(f"{thing.__qualname__} has no public methods that could leave")
            for called, one in methods.items():
                wrapped = _wrapped(state, one)
                setattr(thing, called, wrapped if one.bound else staticmethod(wrapped))
            setattr(thing, ATTRIBUTE, Boundary(name, {called: one.call for called, one in methods.items()}))
            return thing
        if not inspect.isfunction(thing):
            raise NotTyped(f"{thing!r} is neither a function nor a class")
        one = function(thing.__name__, thing, bound=False)
        wrapped = _wrapped(state, one)
        setattr(wrapped, ATTRIBUTE, Boundary(name, {one.name: thing}))
        return wrapped  # type: ignore[return-value]

    return decorate


def _public_methods(kind: type) -> dict[str, tuple[Callable[..., Any], bool]]:
    """Name to (function, whether `self` stands first), inherited ones too."""
    found: dict[str, tuple[Callable[..., Any], bool]] = {}
    for base in reversed(kind.__mro__[:-1]):
        for name, value in vars(base).items():
            if name.startswith("_"):
                continue
            found.pop(name, None)
            if isinstance(value, staticmethod):
                found[name] = (value.__func__, False)
            elif inspect.isfunction(value):
                found[name] = (value, True)
    return found


def _check_hints(function: Function) -> None:
    call = function.call
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise NotTyped(f"{call.__qualname__} is a generator; what it yields cannot cross a boundary")
    parameters = list(inspect.signature(call).parameters)[int(function.bound) :]
    missing = [name for name in (*parameters, "return") if name not in call.__annotations__]
    if missing:
        raise NotTyped(f"{call.__qualname__} needs type hints to cross a boundary: {', '.join(missing)}")


def _wrapped(state: State, function: Function) -> Callable[..., Any]:
    """The first lines are the whole price of a boundary that has not begun to move."""
    call, current = function.call, REQUEST.get
    if function.is_async:

        @functools.wraps(call)
        async def around_async(*args: Any, **kwargs: Any) -> Any:
            request = current()
            if state.is_idle and (request is None or request.side != "unit"):
                return await call(*args, **kwargs)
            return await _decided_async(state, function, request, args, kwargs)

        setattr(around_async, FUNCTION, function)
        return around_async

    @functools.wraps(call)
    def around(*args: Any, **kwargs: Any) -> Any:
        request = current()
        if state.is_idle and (request is None or request.side != "unit"):
            return call(*args, **kwargs)
        return _decided(state, function, request, args, kwargs)

    setattr(around, FUNCTION, function)
    return around


def _decided(
    state: State, function: Function, request: Request | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    choice = choose(state, function, request, args, kwargs)
    if choice.mode is Mode.REMOTE:
        prepared = _prepare(state, function, choice, args, kwargs)
        if prepared is not None:
            with prepared.span as span:
                try:
                    outcome = read_answer(function, prepared.codec, exchange(prepared.call(), prepared.until))
                except (NotSent, Lost) as error:
                    outcome = read_failure(function, error)
                _note(span, outcome)
            value = _conclude(state, function, outcome)
            if value is not _HERE:
                return value
    ask = _ask(state, function, choice, args, kwargs)
    if ask is None:
        return function.call(*args, **kwargs)
    try:
        value = function.call(*args, **kwargs)
    except Exception as error:
        COMPARISONS.raised(ask, error)
        raise
    COMPARISONS.returned(ask, value)
    return value


async def _decided_async(
    state: State, function: Function, request: Request | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    choice = choose(state, function, request, args, kwargs)
    if choice.mode is Mode.REMOTE:
        prepared = _prepare(state, function, choice, args, kwargs)
        if prepared is not None:
            with prepared.span as span:
                try:
                    answer = await exchange_async(prepared.call(), prepared.until)
                    outcome = read_answer(function, prepared.codec, answer)
                except (NotSent, Lost) as error:
                    outcome = read_failure(function, error)
                _note(span, outcome)
            value = _conclude(state, function, outcome)
            if value is not _HERE:
                return value
    ask = _ask(state, function, choice, args, kwargs)
    if ask is None:
        return await function.call(*args, **kwargs)
    try:
        value = await function.call(*args, **kwargs)
    except Exception as error:
        COMPARISONS.raised(ask, error)
        raise
    COMPARISONS.returned(ask, value)
    return value


@dataclass(frozen=True, slots=True)
class _Prepared:
    """`call` is made within the span, which it carries on."""

    call: Callable[[], Call]
    codec: Codec
    until: float
    span: tracing.Child


def _prepare(
    state: State, function: Function, choice: Choice, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> _Prepared | None:
    """None: it cannot travel, and runs here."""
    assert choice.flag is not None
    flag = choice.flag
    left = remaining()
    seconds = function.timeout_seconds if left is None else min(left, function.timeout_seconds)
    if seconds <= 0:
        state.count(state.counts.failed, "deadline_exceeded")
        raise DeadlineExceeded(
            f"no time was left for {function.name} of {state.name}", boundary=state.name, function=function.name
        )
    try:
        codec = codec_of(function)
        body = codec.encode(args[1:] if function.bound else args, kwargs)
    except TypeError as error:
        state.fell_back(function, "no_form", str(error))
        return None
    about = {"spinyard.boundary": state.name, "spinyard.function": function.name}

    def call() -> Call:
        return make_call(function, flag, body, choice.key, seconds, side=choice.side)

    span = tracing.child(f"{state.name}/{function.name}", "client", about)
    return _Prepared(call, codec, time.monotonic() + seconds, span)


def _note(span: tracing.Child, outcome: Outcome) -> None:
    if isinstance(outcome, Failed):
        span.fail(outcome.error.code)
    elif isinstance(outcome, Local):
        span.set("spinyard.local", outcome.why)
    elif isinstance(outcome, Raised):
        span.set("spinyard.raised", type(outcome.error).__name__)


def _conclude(state: State, function: Function, outcome: Outcome) -> Any:
    """The value, or _HERE when it is to run here. Raises what came back."""
    match outcome:
        case Returned(value):
            state.counts.remote += 1
            return value
        case Raised(error):
            state.counts.remote += 1
            raise error
        case Local(why):
            words = (
                "the unit does not take what is sent to it" if why in ("unknown_function", "invalid_arguments") else ""
            )
            state.fell_back(function, why, words)
            return _HERE
        case Failed(error, may_repeat):
            if may_repeat and function.idempotent:
                state.fell_back(function, error.code)
                return _HERE
            state.count(state.counts.failed, error.code)
            raise error


def _ask(state: State, function: Function, choice: Choice, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if choice.mode is not Mode.BOTH:
        return None
    assert choice.flag is not None
    return COMPARISONS.ask(state, function, choice.flag, choice.key, args[1:] if function.bound else args, kwargs)
