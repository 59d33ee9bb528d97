"""The keeper's refusals as ours. Pure."""

from __future__ import annotations

from spinyard.errors import ErrorClass, ProviderFailure
from spinyard.providers.process.client import KeeperRefused, KeeperUnreachable

_NEXT_STEPS = {
    ErrorClass.PORT_UNAVAILABLE: "Free the port, or let Spinyard choose one by leaving out its number.",
    ErrorClass.DISK_FULL: "Make room on the disk of the home; it is tried again by itself.",
    ErrorClass.CANNOT_ENFORCE: "Leave the limit out, or run where `spinyard doctor` shows it in force.",
    ErrorClass.CAPACITY_UNAVAILABLE: "Wait for others to end, or raise the machine's limits.",
}
_CLASSES = {member.value: member for member in ErrorClass}


def failure_of(failed: KeeperRefused | KeeperUnreachable) -> ProviderFailure:
    if isinstance(failed, KeeperUnreachable):
        return ProviderFailure(
            f"The keeper does not answer: {failed}",
            retryable=True,
            next_step="It is started again by itself; if that goes on failing, see logs/keeper.log in the home.",
        )
    if failed.error_class == "StaleEpoch":
        return ProviderFailure(
            f"The keeper refused: {failed.message}",
            error_class=ErrorClass.INTERNAL,
            retryable=False,
            next_step="Another server drives this machine now; this one must end.",
        )
    if failed.error_class == "UnknownOperation":
        return ProviderFailure(
            f"The running keeper is older than this server: {failed.message}",
            retryable=False,
            next_step="Restart the keeper; instances go on meanwhile.",
        )
    error_class = _CLASSES.get(failed.error_class, ErrorClass.PROVIDER_ERROR)
    return ProviderFailure(
        failed.message,
        error_class=error_class,
        retryable=failed.retryable,
        next_step=_NEXT_STEPS.get(error_class, ""),
        details={"keeper": failed.error_class},
    )
