"""Envoy, from its configuration until it has confirmed everything of the ledger."""

from __future__ import annotations

from spinyard.errors import SystemFailure
from spinyard.proxy.bootstrap import argv, write_config
from spinyard.settings import Settings
from spinyard.wiring.assemble import Parts

ENVOY = "envoy"
GATEWAY_SECONDS = 20.0


async def start_gateway(parts: Parts) -> None:
    """Returns when Envoy has confirmed everything of the ledger, or raises with its own words for why not."""
    settings = parts.settings
    config = settings.run_dir / "envoy.json"
    write_config(config, settings.xds_socket, settings.admin_socket)
    parts.context.failpoint("supervise:before")
    await parts.process.keeper.supervise(ENVOY, argv(settings.home, config), restart=True, hot=True)
    parts.context.failpoint("supervise:after")
    began = parts.clock.monotonic()
    while not parts.proxy.is_serving():
        refused = parts.proxy.listener_problem()
        if refused:
            raise _gateway_refused(settings, refused)
        if parts.clock.monotonic() - began > GATEWAY_SECONDS:
            raise SystemFailure(
                f"Envoy did not get ready within {GATEWAY_SECONDS:g} s",
                code="gateway_not_ready",
                next_step=f"see the end of {settings.log_dir}/envoy*.log, and `spinyard doctor`",
            )
        await parts.clock.sleep(0.02)


def _gateway_refused(settings: Settings, words: str) -> SystemFailure:
    taken = "address already in use" in words.lower()
    failure = SystemFailure(
        f"the gateway cannot listen on {settings.gateway}: "
        + ("the address is in use by another program" if taken else words),
        code="gateway_port_taken" if taken else "gateway_refused",
        next_step="stop what uses it, or give another address with --gateway",
        details={"envoy": words},
    )
    failure.fault = "user"
    return failure
