"""One probe, made now. Who is to blame is the whole question: the instance (FAILED) or us (UNKNOWN)."""

from __future__ import annotations

import asyncio
import errno
import re
import socket
from collections.abc import Awaitable, Callable

from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Exec, Grpc, HttpGet, Probe, TcpSocket
from spinyard.errors import SpinyardError
from spinyard.ports.clock import Clock
from spinyard.probes.grpc_health import check_grpc
from spinyard.probes.http import check_http

RunCommand = Callable[[ResourceKey, tuple[str, ...], float, int], Awaitable[tuple[int | None, str]]]
"""(process, command, timeout_seconds, output_bytes) -> (exit code, output); None: killed, or out of time."""

OUTPUT_BYTES_MAX = 4096
_MESSAGE_MAX = 300
_LATE_SECONDS = 0.9
_LAG_SECONDS = 0.25

# Errors of connect that say something of this process or machine, not of the instance.
_OURS = frozenset(
    getattr(errno, name)
    for name in ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL", "ENETDOWN", "ENETUNREACH", "EACCES", "EPERM")
)
_PORT_VARIABLE = re.compile(r"\$\{(PORT(?:_[A-Z0-9_]+)?)\}")

Ports = tuple[tuple[str, int], ...]


class RealProber:
    """Implements ports.prober.Prober. `run_command` runs in the instance's environment; without it exec is UNKNOWN."""

    def __init__(self, clock: Clock, run_command: RunCommand | None = None, *, in_flight_max: int = 256) -> None:
        self._clock = clock
        self._run_command = run_command
        self._slots = asyncio.Semaphore(in_flight_max)

    async def check(self, process: ResourceKey, address: str, ports: Ports, probe: Probe) -> ProbeResult:
        """See ports.prober.Prober."""
        try:
            async with asyncio.timeout(_LATE_SECONDS):
                await self._slots.acquire()
        except TimeoutError:
            return _unknown("too many probes at once")
        began_at = self._clock.monotonic()
        try:
            return await self._check(process, address, ports, probe)
        except TimeoutError:
            # A loop that stood still fires every timeout at once, whatever the instances did meanwhile.
            if self._clock.monotonic() - began_at > probe.timeout_seconds + _LAG_SECONDS:
                return _unknown("we were too busy to hear the answer")
            return _failed(f"no answer within {probe.timeout_seconds:g} s")
        finally:
            self._slots.release()

    async def _check(self, process: ResourceKey, address: str, ports: Ports, probe: Probe) -> ProbeResult:
        if probe.exec is not None:
            return await self._exec(process, ports, probe.exec, probe.timeout_seconds)
        action = probe.http_get or probe.tcp_socket or probe.grpc
        if action is None:
            return _unknown("the probe has no action")
        port = port_number(ports, action.port)
        if port is None:
            return _unknown(f'there is no port "{action.port}"')
        try:
            async with asyncio.timeout(probe.timeout_seconds):
                return await _ask(action, address, port, probe.timeout_seconds)
        except TimeoutError:
            raise
        except OSError as error:
            return _of_error(error, f"{address}:{port}")

    async def _exec(self, process: ResourceKey, ports: Ports, action: Exec, timeout_seconds: float) -> ProbeResult:
        if self._run_command is None:
            return _unknown("commands cannot be run here")
        command = tuple(expand_ports(word, ports) for word in action.command)
        try:
            # The runner has the limit; ours, a little later, is for a runner that does not answer.
            async with asyncio.timeout(timeout_seconds + _LATE_SECONDS):
                code, output = await self._run_command(process, command, timeout_seconds, OUTPUT_BYTES_MAX)
        except (SpinyardError, OSError) as error:
            return _unknown(f"the command could not be run: {error}")
        if code == 0:
            return ProbeResult(ProbeAnswer.OK)
        how = f"exit code {code}" if code is not None else f"killed, or longer than {timeout_seconds:g} s"
        said = f"{action.command[0] if action.command else 'the command'}: {how}"[:_MESSAGE_MAX]
        tail = output.strip()[-max(1, _MESSAGE_MAX - len(said) - 2) :]
        return _failed(f"{said}: {tail}" if tail else said)


async def _ask(action: HttpGet | TcpSocket | Grpc, address: str, port: int, timeout_seconds: float) -> ProbeResult:
    match action:
        case HttpGet():
            return await check_http(action, address, port)
        case TcpSocket():
            _, writer = await asyncio.open_connection(address, port)
            writer.close()
            return ProbeResult(ProbeAnswer.OK)
        case Grpc():
            return await check_grpc(action.service, address, port, timeout_seconds)


def port_number(ports: Ports, name: str) -> int | None:
    """The port of that name; no name: the first."""
    if not name:
        return ports[0][1] if ports else None
    return dict(ports).get(name)


def expand_ports(word: str, ports: Ports) -> str:
    """`${PORT}` and `${PORT_<NAME>}`; anything else stays as it is."""
    known = {"PORT_" + name.upper().replace("-", "_"): number for name, number in ports}
    if ports:
        known["PORT"] = ports[0][1]
    return _PORT_VARIABLE.sub(lambda found: str(known.get(found[1], found[0])), word)


def _of_error(error: OSError, where: str) -> ProbeResult:
    if isinstance(error, socket.gaierror):
        return _unknown(f"{where}: the name cannot be resolved: {error.strerror}")
    words = error.strerror or str(error)
    return _unknown(f"{where}: {words}") if error.errno in _OURS else _failed(f"{where}: {words}")


def _failed(message: str) -> ProbeResult:
    return ProbeResult(ProbeAnswer.FAILED, message[:_MESSAGE_MAX])


def _unknown(message: str) -> ProbeResult:
    return ProbeResult(ProbeAnswer.UNKNOWN, message[:_MESSAGE_MAX])
