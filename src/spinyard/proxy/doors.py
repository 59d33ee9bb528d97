"""Where requests come in, and what else Envoy has from the beginning and always: it depends on no wish."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from spinyard.ports.clock import Clock
from spinyard.proxy import proto, translate_inside, translate_listener, translate_tracing
from spinyard.proxy.bootstrap import RUNTIME_LAYER
from spinyard.proxy.translate_inside import Inside, inside_problem
from spinyard.proxy.translate_listener import Gateway
from spinyard.proxy.xds import XdsServer
from spinyard.proxy.xds_stream import CLUSTER, LISTENER, RUNTIME, Change

RETRY_SECONDS = 1.0
RETRY_SECONDS_MAX = 5.0
LASTING_SECONDS = 10.0
"""a port that is busy for less, while Envoy is replaced, is nobody's fault"""


class Doors:
    """Raises ValueError for a place where nobody can listen."""

    def __init__(
        self, xds: XdsServer, clock: Clock, gateway: Gateway, inside: Inside | None, otlp_socket: Path | None
    ) -> None:
        problem = inside_problem(inside) if inside is not None else ""
        if problem:
            raise ValueError(problem)
        self._xds = xds
        self._clock = clock
        self._inside = inside
        self._listeners = {translate_listener.LISTENER: translate_listener.listener(gateway)}
        if inside is not None:
            self._listeners |= translate_inside.listeners(inside, gateway)
        self._troubles: dict[str, tuple[float, str]] = {}
        self._tried_at = 0.0
        self._pause = RETRY_SECONDS
        clusters = translate_inside.clusters(inside) if inside is not None else {}
        if otlp_socket is not None:
            clusters[translate_tracing.RECEIVER] = translate_tracing.receiver_cluster(otlp_socket)
        runtime = {"name": RUNTIME_LAYER, "layer": translate_tracing.runtime()}
        xds.publish(
            [
                *(_change(CLUSTER, name, cluster) for name, cluster in clusters.items()),
                *(_change(LISTENER, name, listener) for name, listener in self._listeners.items()),
                _change(RUNTIME, RUNTIME_LAYER, runtime),
            ]
        )

    def problem(self) -> str:
        """Why the gateway does not listen, in Envoy's words, or empty."""
        return self._xds.refusal(LISTENER, translate_listener.LISTENER)

    def lasting_inside_problem(self) -> str:
        """The same of the listener for calls from inside, once it has been so for a while."""
        since, words = self._troubles.get(translate_inside.LISTENER, (0.0, ""))
        return words if words and self._clock.monotonic() - since >= LASTING_SECONDS else ""

    def tend(self) -> None:
        """A listener that was refused may be possible now."""
        self._note_troubles()
        refused = [name for name in self._listeners if self._xds.refusal(LISTENER, name)]
        now = self._clock.monotonic()
        if not refused:
            self._tried_at, self._pause = now, RETRY_SECONDS
        elif now - self._tried_at >= self._pause:
            self._tried_at = now
            self._pause = min(self._pause * 2, RETRY_SECONDS_MAX)
            self._xds.publish([_change(LISTENER, name, self._listeners[name]) for name in refused], again=True)

    def _note_troubles(self) -> None:
        """Between two tries nothing is refused: only Envoy's yes ends it, or that it is away."""
        if not self._xds.connected:
            self._troubles.clear()
        for name in self._listeners:
            words, confirmed = self._xds.refusal(LISTENER, name), self._xds.confirmed(LISTENER, name)
            if words:
                self._troubles[name] = (self._troubles.get(name, (self._clock.monotonic(), ""))[0], words)
            elif confirmed and confirmed.version >= self._xds.catalogue.wanted[LISTENER][name].version:
                self._troubles.pop(name, None)


def _change(kind: str, name: str, value: Mapping[str, object]) -> Change:
    return Change(kind, name, proto.encode(kind.removeprefix(proto.TYPE_PREFIX), value))
