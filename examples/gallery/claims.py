"""The demo's act of the warm pool: one template claimed cold and warm, timed to the first answer through Envoy."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from examples.gallery.stage import DEADLINE_SECONDS, BrokenPromise, Stage

FILE = Path(__file__).with_name("sandbox.yaml")
POOL = "sandbox"
LOOK_SECONDS = 0.005


@dataclass(slots=True)
class ClaimAct:
    """`cold`, `warm`: seconds from asking for the claim to the first 200 under its host name; 0: not yet."""

    stage: Stage
    cold: float = 0.0
    warm: float = 0.0

    def claim_cold(self) -> str:
        """From a pool that keeps nothing: what a start of this template takes without one."""
        self._apply(keep=0)
        self.cold = self._claim(f"{POOL}-cold", cold=True)
        return f"first answer after {seconds_text(self.cold)}"

    def fill(self) -> str:
        self._apply(keep=1)
        took = self.stage.wait("a member is warm", self._has_warm)
        return f"started, probed, not routed: {took:.1f} s"

    def claim_warm(self) -> str:
        self.warm = self._claim(f"{POOL}-warm", cold=False)
        return f"first answer after {seconds_text(self.warm)}"

    def give_back(self) -> str:
        began = time.monotonic()
        self.stage.remember_ports()
        self.stage.spinyard("release", f"{POOL}-cold", f"{POOL}-warm", "--wait")
        self.stage.spinyard("delete", "warmpool", POOL, "--wait")
        left: list[str] = []

        def nothing_left() -> bool:
            left[:] = self.stage.left_of_pool(POOL, [f"{POOL}-cold.{POOL}.localhost", f"{POOL}-warm.{POOL}.localhost"])
            return not left

        try:
            self.stage.wait("nothing is left of the pool", nothing_left)
        except BrokenPromise as broken:
            raise BrokenPromise(f"{broken}; left: {', '.join(left)}") from None
        return f"nothing is left of it; {time.monotonic() - began:.1f} s"

    def _apply(self, *, keep: int) -> None:
        path = self.stage.variant(FILE, f"pool-{keep}.yaml", {"  min: 1\n": f"  min: {keep}\n"})
        self.stage.spinyard("apply", "-f", str(path))

    def _has_warm(self) -> bool:
        return any(spin["status"]["state"] == "warm" for spin in self.stage.spins({"spinyard.dev/pool": POOL}))

    def _claim(self, name: str, *, cold: bool) -> float:
        """Over HTTP as any program would, so that no Python that starts is in the figure."""
        client = self.stage.client
        began = time.monotonic()
        client.claim("default", POOL, {"name": name})
        host = f"{name}.{POOL}.localhost"
        with self.stage.through_envoy(host) as ask:
            while (status := ask("/photos")) != 200:
                if time.monotonic() - began > DEADLINE_SECONDS:
                    raise BrokenPromise(f"not within {DEADLINE_SECONDS:g} s: {host} answers (last: {status})")
                time.sleep(LOOK_SECONDS)
        took = time.monotonic() - began
        if bool(client.get("Claim", "default", name)["status"].get("cold")) is not cold:
            raise BrokenPromise(f"claim {name} was to be {'cold' if cold else 'warm'}, and was not")
        return took


def seconds_text(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
