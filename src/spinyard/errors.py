"""Every error a user can meet, as one tree.

    SpinyardError
    ├── UserError                      fault "user": the request or the file must change
    │   ├── InvalidInput               422 invalid_manifest, invalid_request, ...
    │   ├── NotFound                   404 not_found
    │   ├── Conflict                   409 conflict, already_exists, in_flight
    │   ├── PreconditionFailed         412 precondition_failed (If-Match)
    │   ├── KeyReused                  422 idempotency_key_reused
    │   ├── Unauthenticated            401 unauthenticated
    │   ├── Expired                    410 expired (a resume token older than the kept history)
    │   ├── TooLarge                   413 too_large
    │   └── TooMany                    429 too_many_requests
    ├── ProviderFailure                fault "provider": the machine, the network, a cloud; carries an ErrorClass
    └── SystemFailure                  fault "spinyard" or the machine it runs on
        ├── StoreFailure               503 store_locked, store_corrupt, store_too_new, disk_full, home_not_writable
        ├── ServerAlreadyRunning       409 server_already_running
        ├── Unreachable                503 server_unreachable (client side: nothing answers)
        └── Unenforceable              422 cannot_enforce (a limit that was asked for and cannot be had here)

A code never changes once published; the message may.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ErrorClass(StrEnum):
    """Why a spin could not be had. Closed list; extended only together with a test that provokes it."""

    COMMAND_NOT_FOUND = "CommandNotFound"
    COMMAND_NOT_EXECUTABLE = "CommandNotExecutable"
    PROCESS_EXITED = "ProcessExited"
    OUT_OF_MEMORY = "OutOfMemory"
    DISK_FULL = "DiskFull"
    PORT_UNAVAILABLE = "PortUnavailable"
    PROVISION_TIMEOUT = "ProvisionTimeout"
    QUEUE_TIMEOUT = "QueueTimeout"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CAPACITY_UNAVAILABLE = "CapacityUnavailable"
    RATE_LIMITED = "RateLimited"
    SECRET_DENIED = "SecretDenied"
    BOOTSTRAP_EXIT = "BootstrapExit"
    BOOTSTRAP_TIMEOUT = "BootstrapTimeout"
    SMOKE_TEST_FAILED = "SmokeTestFailed"
    PROBE_FAILED = "ProbeFailed"
    REGISTER_TIMEOUT = "RegisterTimeout"
    DEPENDENCY_FAILED = "DependencyFailed"
    CANNOT_ENFORCE = "CannotEnforce"
    INSTANCE_LOST = "InstanceLost"
    TIMEOUT = "Timeout"
    CLAIM_HOOK_FAILED = "ClaimHookFailed"
    PROVIDER_ERROR = "ProviderError"
    INTERNAL = "Internal"


class SpinyardError(Exception):
    """What happened, to what, whose fault, what to do next.

    `code` is stable; `fault` is user, provider or spinyard; `next_step` is a sentence a person can act on; `details`
    is plain JSON data.
    """

    status = 500
    code = "internal"
    fault = "spinyard"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        next_step: str = "",
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.next_step = next_step
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.details: Mapping[str, object] = details or {}


class UserError(SpinyardError):
    status = 400
    code = "bad_request"
    fault = "user"


class InvalidInput(UserError):
    status = 422
    code = "invalid_request"


class NotFound(UserError):
    status = 404
    code = "not_found"


class Conflict(UserError):
    status = 409
    code = "conflict"


class PreconditionFailed(UserError):
    status = 412
    code = "precondition_failed"


class KeyReused(UserError):
    status = 422
    code = "idempotency_key_reused"


class Unauthenticated(UserError):
    status = 401
    code = "unauthenticated"


class Expired(UserError):
    status = 410
    code = "expired"


class TooLarge(UserError):
    status = 413
    code = "too_large"


class TooMany(UserError):
    status = 429
    code = "too_many_requests"


class ProviderFailure(SpinyardError):
    """A provider said no, or said nothing. `error_class` is what the spin's reason becomes."""

    status = 502
    code = "provider_failure"
    fault = "provider"

    def __init__(
        self,
        message: str,
        *,
        error_class: ErrorClass = ErrorClass.PROVIDER_ERROR,
        retryable: bool = True,
        retry_after_seconds: float | None = None,
        next_step: str = "",
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(
            message,
            next_step=next_step,
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
            details=details,
        )
        self.error_class = error_class


class SystemFailure(SpinyardError):
    status = 503
    code = "system_failure"


class StoreFailure(SystemFailure):
    code = "store_failure"


class ServerAlreadyRunning(SystemFailure):
    status = 409
    code = "server_already_running"


class Unreachable(SystemFailure):
    code = "server_unreachable"


class Unenforceable(SystemFailure):
    status = 422
    code = "cannot_enforce"
    fault = "provider"
