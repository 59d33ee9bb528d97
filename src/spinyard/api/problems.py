"""Errors as RFC 9457 problem documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from spinyard.errors import SpinyardError

MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "https://spinyard.dev/problems/"

_log = structlog.get_logger("spinyard.api")

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timed out",
    409: "Conflict",
    410: "Expired",
    412: "Precondition failed",
    413: "Too large",
    415: "Unsupported media type",
    421: "Wrong host",
    422: "Invalid request",
    429: "Too many requests",
    500: "Internal error",
    502: "Provider failure",
    503: "Not available",
}
_HTTP_CODES = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


def problem_response(error: SpinyardError, *, headers: Mapping[str, str] | None = None) -> Response:
    return respond(error.status, problem_json(error), headers={**_retry_header(error), **(headers or {})})


def problem_json(error: SpinyardError) -> dict[str, Any]:
    return {
        "type": TYPE_BASE + error.code,
        "title": _TITLES.get(error.status, "Error"),
        "status": error.status,
        "detail": error.message,
        "code": error.code,
        "fault": error.fault,
        "retryable": error.retryable,
        "retryAfter": error.retry_after_seconds,
        "nextStep": error.next_step,
        "errors": list(_errors_of(error)),
        **{k: v for k, v in error.details.items() if k != "errors"},
    }


def respond(status: int, body: Mapping[str, Any], *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type=MEDIA_TYPE, headers=dict(headers or {}))


def add_handlers(app: FastAPI) -> None:
    app.add_exception_handler(SpinyardError, _on_ours)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(HTTPException, _on_http)


def internal_problem(error: Exception, *, method: str, path: str) -> Response:
    _log.error("request_failed", method=method, path=path, why=str(error), exc_info=error)
    wrapped = SpinyardError(
        "The server failed while answering; it is our fault.",
        next_step="Repeat the request; if it fails again, report it with the server's log.",
        retryable=True,
    )
    return problem_response(wrapped)


async def _on_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpinyardError)
    if error.status >= 500:
        _log.warning(
            "request_refused", method=request.method, path=request.url.path, code=error.code, why=error.message
        )
    return problem_response(error)


async def _on_validation(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [_validation_entry(e) for e in error.errors()[:100]]
    first = errors[0]["message"] if errors else "the request is not valid"
    body = _plain(422, "invalid_request", f"{errors[0]['path'] if errors else 'request'}: {first}", errors)
    return respond(422, body)


def _validation_entry(entry: Mapping[str, Any]) -> dict[str, str]:
    where, *rest = entry.get("loc", ("request",))
    path = ".".join(str(part) for part in rest) or str(where)
    return {
        "path": path,
        "code": str(entry.get("type", "invalid")),
        "message": str(entry.get("msg", "")),
        "expected": "",
    }


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = _HTTP_CODES.get(error.status_code, "bad_request")
    detail = {
        404: f"There is nothing at {request.url.path}.",
        405: f"{request.method} is not possible at {request.url.path}.",
    }.get(error.status_code, str(error.detail))
    return respond(error.status_code, _plain(error.status_code, code, detail, ()), headers=error.headers)


def _plain(status: int, code: str, detail: str, errors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "type": TYPE_BASE + code,
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": detail,
        "code": code,
        "fault": "user",
        "retryable": False,
        "retryAfter": None,
        "nextStep": "Correct the request; /v1/openapi.json describes what is possible.",
        "errors": list(errors),
    }


def _errors_of(error: SpinyardError) -> Sequence[Any]:
    found = error.details.get("errors", ())
    return found if isinstance(found, list | tuple) else ()


def _retry_header(error: SpinyardError) -> dict[str, str]:
    if error.retry_after_seconds is None:
        return {}
    return {"retry-after": str(max(1, math.ceil(error.retry_after_seconds)))}
