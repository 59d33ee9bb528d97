"""A real Envoy, the provider under test and small backends, in one temporary home."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import Absent, BoundaryFacts, EndpointFacts, Observed, Present, RouteFacts
from spinyard.core.want import EndpointState, EndpointWant, RouteWant
from spinyard.proxy import bootstrap
from spinyard.proxy.provider import ProxyProvider
from spinyard.proxy.translate_inside import Inside
from spinyard.proxy.translate_listener import Gateway


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        return True
    return False


async def until(what: Callable[[], Awaitable[bool]], why: str, seconds: float = 8.0) -> float:
    """Waits until it is so; how long it took."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if await what():
            return time.monotonic() - start
        await asyncio.sleep(0.004)
    raise AssertionError(f"not within {seconds} s: {why}")


class World:
    def __init__(self, *, certificate: str = "", key: str = "") -> None:
        self.home = Path(tempfile.mkdtemp(prefix="sy-", dir="/tmp"))
        self.port = free_port()
        self.inside_port = free_port()
        self.gateway = Gateway("127.0.0.1", self.port, certificate, key)
        self.inside = Inside(
            self.inside_port,
            self.home / "local.sock",
            comparator_socket=self.home / "compare.sock",
            asked_socket=self.home / "asked.sock",
        )
        self.envoys: list[subprocess.Popen[bytes]] = []
        self.backends: dict[str, subprocess.Popen[bytes]] = {}
        self.ports: dict[str, int] = {}
        self.provider = self.new_provider()
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))

    def new_provider(self) -> ProxyProvider:
        return ProxyProvider(
            scope="host:test",
            node_cluster=bootstrap.node_cluster(self.home),
            xds_socket=self.home / "xds.sock",
            admin_socket=self.home / "admin.sock",
            gateway=self.gateway,
            inside=self.inside,
            clock=SystemClock(),
        )

    def start_envoy(self, epoch: int = 0) -> subprocess.Popen[bytes]:
        config = self.home / "envoy.json"
        bootstrap.write_config(config, self.home / "xds.sock", self.home / "admin.sock")
        argv = [part.replace(bootstrap.EPOCH_PLACEHOLDER, str(epoch)) for part in bootstrap.argv(self.home, config)]
        with (self.home / "envoy.log").open("ab") as log:
            envoy = subprocess.Popen(argv, stdout=log, stderr=log)
        self.envoys.append(envoy)
        return envoy

    async def start(self) -> None:
        await self.provider.start()
        self.start_envoy()
        await self.serving()

    async def serving(self) -> float:
        async def is_serving() -> bool:
            """Envoy confirms the routes some milliseconds before its workers listen."""
            return self.provider.is_serving() and await listens(self.port)

        return await until(is_serving, "Envoy serves")

    async def stop(self) -> None:
        await self.session.close()
        await self.provider.stop()
        for process in [*self.envoys, *self.backends.values()]:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.home)

    async def counters(self, pattern: str) -> dict[str, int]:
        """Envoy's counters and gauges whose name matches the regular expression, as they stand."""
        query = {"format": "json", "filter": pattern}
        connector = aiohttp.UnixConnector(str(self.home / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://envoy/stats", params=query) as answer,
        ):
            stats = (await answer.json(content_type=None)).get("stats", [])
        return {entry["name"]: int(entry["value"]) for entry in stats if isinstance(entry.get("value"), int)}

    async def clusters(self) -> set[str]:
        """The names of those that Envoy has."""
        connector = aiohttp.UnixConnector(str(self.home / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://envoy/clusters", params={"format": "json"}) as answer,
        ):
            found = (await answer.json(content_type=None)).get("cluster_statuses", [])
        return {cluster["name"] for cluster in found}

    def envoy_log(self) -> str:
        return (self.home / "envoy.log").read_text()

    # -- backends --------------------------------------------------------------------------------------------------

    async def start_backend(self, name: str, *options: str) -> int:
        """A process of its own; answers as `name`. Returns its port, when it listens."""
        port = self.ports[name] = free_port()
        script = Path(__file__).with_name("backend.py")
        command = [sys.executable, str(script), name, str(port), *options]
        self.backends[name] = subprocess.Popen(command)  # noqa: ASYNC220

        async def is_there() -> bool:
            return await listens(port)

        await until(is_there, f"backend {name} listens")
        return port

    def kill(self, name: str) -> None:
        """By SIGKILL, and gone at the return."""
        self.backends[name].kill()
        self.backends[name].wait()

    # -- wishes ----------------------------------------------------------------------------------------------------

    async def route(self, key: str, want: RouteWant) -> float:
        await self.provider.ensure(ResourceKey(key), want)
        return await self.acknowledged(key)

    async def endpoint(self, key: str, cluster: str, port: int, state: EndpointState = EndpointState.ACTIVE) -> float:
        """Ensured, and acknowledged and healthy (when it is to be active); how long it took."""
        want = EndpointWant(cluster=cluster, address="127.0.0.1", port=port, state=state)
        await self.provider.ensure(ResourceKey(key), want)

        async def is_so() -> bool:
            facts = await self.facts(key)
            assert not (isinstance(facts, EndpointFacts) and facts.rejected), facts
            return isinstance(facts, EndpointFacts) and facts.acknowledged and (facts.healthy or state != "active")

        return await until(is_so, f"{key} is acknowledged")

    async def acknowledged(self, key: str) -> float:
        async def is_so() -> bool:
            facts = await self.facts(key)
            return facts is not None and facts.acknowledged

        return await until(is_so, f"{key} is acknowledged")

    async def rejected(self, key: str, want: RouteWant | EndpointWant, text: str) -> None:
        await self.provider.ensure(ResourceKey(key), want)

        async def is_so() -> bool:
            facts = await self.facts(key)
            return facts is not None and not facts.acknowledged and text in facts.rejected

        await until(is_so, f"{key} is rejected for {text}")

    async def idle(self, key: str) -> float:
        async def is_so() -> bool:
            facts = await self.facts(key)
            return isinstance(facts, EndpointFacts) and facts.acknowledged and facts.active_requests == 0

        return await until(is_so, f"{key} is idle", 20)

    async def removed(self, key: str) -> float:
        await self.provider.remove(ResourceKey(key))

        async def is_so() -> bool:
            return isinstance(await self.observe(key), Absent)

        return await until(is_so, f"{key} is absent")

    async def observe(self, key: str) -> Observed:
        return await self.provider.observe(ResourceKey(key))

    async def facts(self, key: str) -> EndpointFacts | RouteFacts | BoundaryFacts | None:
        seen = await self.observe(key)
        if not isinstance(seen, Present):
            return None
        assert isinstance(seen.facts, (EndpointFacts, RouteFacts, BoundaryFacts))
        return seen.facts

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    async def get(self, path: str = "/", host: str = "shop", **options: object) -> tuple[int, str]:
        async with self.session.get(self.url(path), headers={"Host": host}, **options) as answer:  # type: ignore[arg-type]
            return answer.status, await answer.text()
