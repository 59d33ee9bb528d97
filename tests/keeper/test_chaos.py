"""Programs come and go while shims and keepers are killed: at the end nothing is left, and nothing was doubled."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time

import pytest

from spinyard.keeper import kernel
from tests.keeper.driver import Keeper, marked, until

DAEMONS = """
import os, sys, time
for _ in range(2):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(300)
        os._exit(0)
time.sleep(float(sys.argv[2]))
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_killed_nothing_is_left(keeper: Keeper, seed: int) -> None:
    chance = random.Random(seed)
    mark = f"mark-{time.time_ns()}"
    keys: list[str] = []
    for number in range(60):
        step = chance.random()
        if step < 0.5 or not keys:
            key = f"chaos{number}/process"
            seconds = str(chance.choice([0, 0.05, 300]))
            assert keeper.run(key, sys.executable, "-S", "-c", DAEMONS, mark, seconds)["ok"]
            keys.append(key)
        elif step < 0.65:
            keeper.remove(chance.choice(keys), now=chance.random() < 0.5)
        elif step < 0.8:
            _kill_shim(keeper, chance.choice(keys))
        elif step < 0.9:
            keeper.kill()
            keeper.start()
        else:
            os.kill(keeper.pid, signal.SIGSTOP)
            _kill_shim(keeper, chance.choice(keys))
            keeper.kill()
            keeper.start()
    for key in keys:
        keeper.remove(key, now=True)
    until(lambda: _collect(keeper, keys), 30)
    assert marked(mark) == []
    assert keeper.ask("list") == {"id": 7, "ok": True, "instances": [], "strays": []}


def _kill_shim(keeper: Keeper, key: str) -> None:
    """It may have ended long ago, and its pid may be somebody else's by now."""
    path = keeper.home / "run" / "instances" / key.replace("/", "~") / "identity.json"
    try:
        identity = json.loads(path.read_text())
    except FileNotFoundError:
        return
    pidfd = kernel.open_verified(identity["shim_pid"], identity["shim_start"])
    if pidfd is not None:
        kernel.send(pidfd, signal.SIGKILL)
        os.close(pidfd)


def _collect(keeper: Keeper, keys: list[str]) -> bool:
    left = [key for key in keys if keeper.observe(key) is not None]
    for key in left:
        keeper.remove(key, now=True)
    return not left
