"""Exit codes, and the errors that only a command line has."""

from __future__ import annotations

from enum import IntEnum

from spinyard import errors


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    """the thing itself failed: a service that did not get ready, a plan that cannot run, differences found by diff"""
    USAGE = 2
    """the command line, the file or the request must change"""
    INCONCLUSIVE = 3
    """ended before the answer was known, by Ctrl-C; work on the server goes on"""
    ERROR = 4
    """no server, a broken store, a bug"""
    TIMEOUT = 5
    DENIED = 6
    NOT_FOUND = 7
    CONFLICT = 8


class WaitedTooLong(errors.SpinyardError):
    """A wait of this command line ended; what was waited for goes on."""

    status = 504
    code = "timeout"
    fault = "nobody"


class Failed(errors.SpinyardError):
    """What was asked for was tried and failed."""

    status = 422
    code = "failed"
    fault = "user"


class Usage(errors.UserError):
    code = "usage"


# First match wins, so narrower classes stand first.
_EXITS: tuple[tuple[type[errors.SpinyardError], Exit], ...] = (
    (WaitedTooLong, Exit.TIMEOUT),
    (Failed, Exit.FAILED),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.PreconditionFailed, Exit.CONFLICT),
    (errors.Conflict, Exit.CONFLICT),
    (errors.KeyReused, Exit.CONFLICT),
    (errors.ServerAlreadyRunning, Exit.CONFLICT),
    (errors.Unauthenticated, Exit.DENIED),
    (errors.Unenforceable, Exit.FAILED),
    (errors.Expired, Exit.ERROR),
    (errors.TooMany, Exit.ERROR),
    (errors.UserError, Exit.USAGE),
)


def exit_of(error: errors.SpinyardError) -> Exit:
    return next((code for error_type, code in _EXITS if isinstance(error, error_type)), Exit.ERROR)
