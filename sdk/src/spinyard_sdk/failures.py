"""What a call over a boundary can fail with, beside the exceptions of the function itself."""

from __future__ import annotations


class RemoteError(Exception):
    """The unit did not do it, or nobody knows. `code` is stable:

    * `internal`: the function failed there with an exception that the boundary does not declare;
    * `deadline_exceeded`: no answer in time;
    * `connection_lost`: the connection ended after the request was sent and before the answer was there;
    * `bad_answer`: there was an answer, and it is not what the function returns;
    * `too_large`: the answer is larger than is read;
    * `http_<status>`: anything else that was answered.

    `may_have_run`: whether the function may have had its effects. It is never called again without
    `idempotent=True`, so a caller who repeats does it at its own risk.
    """

    def __init__(
        self, message: str, *, code: str, boundary: str = "", function: str = "", may_have_run: bool = True
    ) -> None:
        super().__init__(message)
        self.code = code
        self.boundary = boundary
        self.function = function
        self.may_have_run = may_have_run


class DeadlineExceeded(RemoteError, TimeoutError):
    """No answer in time."""

    def __init__(self, message: str, *, boundary: str = "", function: str = "") -> None:
        super().__init__(message, code="deadline_exceeded", boundary=boundary, function=function)


class NotTyped(TypeError):
    """A function of a boundary whose arguments or result cannot travel: no hint, or one that JSON has no form for."""
