"""Servers that need no start of Python: a nursery imports everything once, and what would be executed is forked.

What differs from the real thing: no exec of the server (its command line and environment in /proc are the nursery's),
the modules are there already, and the keeper starts it again at once each time. All else is the product: the keeper and
its shims, a process of its own for each start of the server, its end by SIGKILL. A restart costs a fifth of the CPU.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from spinyard.keeper import kernel, shim
from tests.e2e.house import ROOT, House, Json, kill

KEEPER, COMMANDS = "spinyard.keeper", "spinyard.cli"
SERVER_WORDS = ["-m", COMMANDS, "server-process"]


class Nursery:
    """One for each thread: it has one home at a time, and whatever is below it belongs to that home."""

    def __init__(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SPINYARD_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.warm"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**environment, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        )

    def run(self, module: str, words: list[str], env: Mapping[str, str]) -> tuple[int, str]:
        """Exit code and output of a command, when it has ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.NamedTemporaryFile("r", prefix="sy-warm-") as output:
            order = {"module": module, "words": words, "env": dict(env), "output": output.name}
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the nursery has died"
            return int(json.loads(answer)), output.read()

    def below(self) -> list[int]:
        return below(self._process.pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


_own = threading.local()


class WarmHouse(House):
    pause_seconds = 0.06

    def __init__(self) -> None:
        super().__init__()
        if not hasattr(_own, "nursery"):
            _own.nursery = Nursery()
        self._nursery: Nursery = _own.nursery
        assert not self._nursery.below(), "the last home of this thread has left something"

    def start(self, **env: str) -> None:
        words = ["--home", str(self.home), "--detach"]
        code, output = self._nursery.run(KEEPER, words, {**self.environment(), **env})
        assert code == 0, output
        super().start(**env)

    def run(
        self, *words: str, text: str | None = None, env: Mapping[str, str] | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        code, output = self._nursery.run(COMMANDS, list(words), {**self.environment(), **(env or {})})
        return subprocess.CompletedProcess(words, code, output, "")

    def kill_everything(self) -> None:
        while mine := self._nursery.below():
            for pid in mine:
                kill(pid)


def close_nursery() -> None:
    """Of this thread."""
    if hasattr(_own, "nursery"):
        _own.nursery.close()
        del _own.nursery


def below(parent: int) -> list[int]:
    """All that live below that process, not its zombies."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            words = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] not in ("Z", "X"):
            children.setdefault(int(words[1]), []).append(int(entry.name))
    out, fresh = [], [parent]
    while fresh:
        fresh = [child for one in fresh for child in children.get(one, [])]
        out += fresh
    return out


# -- the nursery -----------------------------------------------------------------------------------------------------


def _warm_up() -> None:
    """What a server loads until it is ready, the parts that it loads late too."""
    import spinyard.cli.app
    import spinyard.cli.commands.server
    import spinyard.keeper.__main__
    import spinyard.store.store
    import spinyard.wiring.server  # noqa: F401


def _serve() -> None:
    _warm_up()
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _become(order)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        _reap()
        print(code, flush=True)
    for pid in below(os.getpid()):
        kill(pid)


def _reap() -> None:
    """Orphans of a home that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _become(order: Json) -> NoReturn:
    null, output = os.open(os.devnull, os.O_RDONLY), os.open(order["output"], os.O_WRONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _begin(order["env"])
    if order["module"] == KEEPER:
        from spinyard.keeper import launch, supervise

        launch._execute = _execute
        supervise.BACKOFF_SECONDS = (0.0,)
    _main(order["module"], order["words"])


def _execute(argv: list[str], environment: dict[str, str]) -> None:
    """In place of exec, in the forked child of a shim: all that exec does for the server."""
    if argv[1:4] != SERVER_WORDS:
        os.execvpe(argv[0], argv, environment)
    _begin(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    kernel.set_name("python")
    _main(COMMANDS, argv[3:])


def _begin(environment: Mapping[str, str]) -> None:
    """As an interpreter would: nothing else is open, and what the streams knew of their files is forgotten."""
    kernel.close_range(3, shim.FILES_MAX)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115


def _main(module: str, words: list[str]) -> NoReturn:
    from spinyard.cli import main as command
    from spinyard.keeper.__main__ import main as keeper

    sys.argv = [module, *words]
    code = 1
    try:
        code = keeper(words) if module == KEEPER else command(words)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:  # noqa: BLE001  as an interpreter would end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
