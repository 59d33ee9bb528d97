"""What the keeper answers when it says no."""

from __future__ import annotations

import errno


class KeeperError(Exception):
    """`error_class` is one of spinyard.errors.ErrorClass, or one of the protocol's own: InvalidRequest,
    UnknownOperation, StaleEpoch, NotFound, TooMany."""

    def __init__(self, error_class: str, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.error_class = error_class
        self.message = message
        self.retryable = retryable


class NotYet(KeeperError):
    """It will be possible in a moment, as far as can be seen: tried again before it is answered."""


def from_os(failed: OSError) -> KeeperError:
    if failed.errno in (errno.ENOSPC, errno.EDQUOT):
        return KeeperError("DiskFull", f"no space left for the home: {failed}", retryable=True)
    if failed.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        return KeeperError("CapacityUnavailable", f"the machine has no more of it: {failed}", retryable=True)
    return KeeperError("ProviderError", str(failed), retryable=True)
