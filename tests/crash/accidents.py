"""Kills of keeper, Envoy, server, and keeper and server together, at moments that a seed decides."""

from __future__ import annotations

import random
import threading
from types import TracebackType

from tests.e2e.house import House, kill

VICTIMS = ("keeper", "envoy", "server", "keeper+server", "instance")
PAUSE_SECONDS = (0.3, 2.5)
KILLS_MAX = 6


class Accidents:
    """While it is entered. Two dead parents need a person: they get `spinyard server`."""

    def __init__(self, house: House, seed: int) -> None:
        self._house = house
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._trouble: list[Exception] = []
        self.done: list[str] = []

    def __enter__(self) -> Accidents:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if error is None and self._trouble:
            raise self._trouble[0]

    def _go_on(self) -> None:
        try:
            self._house.wait("it runs", lambda: self._over.is_set() or self._house.installation, 120)
            while len(self.done) < KILLS_MAX and not self._over.wait(self._chance.uniform(*PAUSE_SECONDS)):
                self._strike(self._chance.choice(VICTIMS))
        except Exception as error:  # noqa: BLE001  told to the thread that waits
            self._trouble.append(error)

    def _strike(self, victim: str) -> None:
        house = self._house
        if "keeper" in victim:
            kill(house.keeper_pid() or self._absent())
        if "server" in victim and (pid := house.server_pid()):
            kill(pid)
        if victim == "envoy":
            for pid in house.envoy_pids():
                kill(pid)
        if victim == "instance" and (pids := house.instance_pids()):
            kill(self._chance.choice(pids))
        if victim == "keeper+server":
            self._start_again()
        self.done.append(victim)

    def _start_again(self) -> None:
        """Unless the server, in the moment it had left, started a keeper that has started it again."""
        done = self._house.run("server", "-o", "json", timeout=90)
        assert done.returncode == 0 or '"server_already_running"' in done.stdout, done.stdout + done.stderr

    def _absent(self) -> int:
        """The keeper is away from the last time: whoever needs it starts it again."""
        self._house.wait("a keeper runs", self._house.keeper_pid)
        return self._house.keeper_pid()
