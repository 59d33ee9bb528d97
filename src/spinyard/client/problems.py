"""problem+json (RFC 9457) back into our error tree: the same class, code and words as on the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spinyard import errors

_BY_CODE: dict[str, type[errors.SpinyardError]] = {
    "not_found": errors.NotFound,
    "conflict": errors.Conflict,
    "already_exists": errors.Conflict,
    "in_flight": errors.Conflict,
    "in_use": errors.Conflict,
    "claim_over": errors.Conflict,
    "claim_fixed": errors.Conflict,
    "precondition_failed": errors.PreconditionFailed,
    "idempotency_key_reused": errors.KeyReused,
    "unauthenticated": errors.Unauthenticated,
    "expired": errors.Expired,
    "too_large": errors.TooLarge,
    "too_many_requests": errors.TooMany,
    "cannot_enforce": errors.Unenforceable,
    "server_already_running": errors.ServerAlreadyRunning,
    "store_locked": errors.StoreFailure,
    "store_corrupt": errors.StoreFailure,
    "store_too_new": errors.StoreFailure,
    "disk_full": errors.StoreFailure,
    "home_not_writable": errors.StoreFailure,
}

_BY_STATUS: dict[int, type[errors.SpinyardError]] = {
    400: errors.UserError,
    401: errors.Unauthenticated,
    403: errors.Unauthenticated,
    404: errors.NotFound,
    405: errors.UserError,
    409: errors.Conflict,
    410: errors.Expired,
    412: errors.PreconditionFailed,
    413: errors.TooLarge,
    422: errors.InvalidInput,
    429: errors.TooMany,
    503: errors.SystemFailure,
}


def error_from_problem(status: int, problem: Mapping[str, Any], retry_after: str = "") -> errors.SpinyardError:
    """Never fails: an unknown code keeps its code, and what is no problem+json becomes an error of its status."""
    code = str(problem.get("code") or "")
    message = str(problem.get("detail") or problem.get("title") or f"the server answered {status}")
    if code == errors.ProviderFailure.code or status == errors.ProviderFailure.status:
        return errors.ProviderFailure(message, next_step=str(problem.get("nextStep") or ""), details=dict(problem))
    error_type = _BY_CODE.get(code) or _BY_STATUS.get(status) or _fallback(status)
    error = error_type(
        message,
        code=code or None,
        next_step=str(problem.get("nextStep") or ""),
        retryable=bool(problem.get("retryable", False)),
        retry_after_seconds=_seconds(problem.get("retryAfter"), retry_after),
        details=dict(problem),
    )
    fault = problem.get("fault")
    if isinstance(fault, str) and fault:
        error.fault = fault
    return error


def _fallback(status: int) -> type[errors.SpinyardError]:
    return errors.UserError if 400 <= status < 500 else errors.SpinyardError


def _seconds(*candidates: object) -> float | None:
    for candidate in candidates:
        if isinstance(candidate, (int, float)):
            return float(candidate)
        if isinstance(candidate, str) and candidate.replace(".", "", 1).isdigit():
            return float(candidate)
    return None
