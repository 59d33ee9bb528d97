"""Programs that must always run: Envoy and the server. Each run of one is an instance of its own, behind a shim, so it
outlives the keeper and is found again; when it ends it is started again, the first time at once.

`hot` is Envoy's hot restart: a new command line starts the next restart epoch beside the old process, which ends by
itself when the new one has taken over. `{restart_epoch}` in the arguments becomes the number. When the new one dies
within HOT_SECONDS the old one goes on; when none is left, the next starts at epoch 0.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypedDict

from spinyard.keeper import launch, records, shim
from spinyard.keeper.errors import KeeperError
from spinyard.keeper.instances import Instance, Instances
from spinyard.keeper.loop import Loop
from spinyard.ports.keeper import EnvEntry

PROGRAMS_MAX: Final = 16
HOT_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 10.0
BACKOFF_SECONDS: tuple[float, ...] = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
GRACE_SECONDS: Final = 30.0
LOG_BYTES: Final = 10 << 20


class Spec(TypedDict):
    argv: list[str]
    env: list[EnvEntry]
    cwd: str
    restart: bool
    hot: bool


class Program(TypedDict):
    """As persisted. `generations`: (serial, restart epoch) of what runs, oldest first."""

    spec: Spec
    last_serial: int
    restarts: int
    failures: int
    stopping: bool
    generations: list[list[int]]
    previous: Spec | None
    """of the older generation while there are two: what is wished again when the newer one fails"""


class Supervisor:
    def __init__(
        self,
        home: str,
        loop: Loop,
        instances: Instances,
        files_limit: tuple[int, int],
        on_change: Callable[[str], None],
    ) -> None:
        self._home = home
        self._file = f"{home}/run/supervised.json"
        self._loop = loop
        self._instances = instances
        self._files_limit = files_limit
        self._on_change = on_change
        self._programs = self._read()
        self._due: set[str] = set()
        self._replaced: set[str] = set()
        instances.on_exit.append(self._exited)

    def _read(self) -> dict[str, Program]:
        remembered = records.read_json(self._file)
        if not isinstance(remembered, dict):
            return {}
        return {name: entry for name, entry in remembered.items() if Program.__required_keys__ <= set(entry)}

    def resume(self) -> None:
        """After the instances were found again: what ended meanwhile is started again."""
        for instance in self._instances.all():
            if not instance.start["supervised"]:
                continue
            if instance.exit is not None:
                self._exited(instance)
            elif not self._is_listed(instance):
                # Its listing was lost (a full disk): nobody would restart or end it.
                self._instances.remove(instance.key, now=False, keep=False)
        for name, program in list(self._programs.items()):
            program["generations"] = [g for g in program["generations"] if self._instances.find(_key(name, g[0]))]
            if not program["generations"]:
                self._all_ended(name, program)

    def _is_listed(self, instance: Instance) -> bool:
        program = self._programs.get(instance.start["supervised"])
        return program is not None and any(g[0] == instance.start["serial"] for g in program["generations"])

    def names(self) -> list[str]:
        return list(self._programs)

    def states(self) -> list[dict[str, Any]]:
        return [self._state(name, program) for name, program in self._programs.items()]

    def _state(self, name: str, program: Program) -> dict[str, Any]:
        newest = self._newest(name, program)
        state = self._instances.state_of(newest) if newest is not None else None
        return {
            "name": name,
            "pid": state["pid"] if state else 0,
            "started_at": state["started_at"] if state else 0.0,
            "restarts": program["restarts"],
            "running": state is not None and state["state"] == "running",
        }

    def _newest(self, name: str, program: Program) -> Instance | None:
        generations = program["generations"]
        return self._instances.find(_key(name, generations[-1][0])) if generations else None

    # -- asked for ---------------------------------------------------------------------------------------------------

    def supervise(self, name: str, spec: Spec) -> None:
        program = self._programs.get(name)
        if program is None:
            if len(self._programs) >= PROGRAMS_MAX:
                raise KeeperError("TooMany", f"{PROGRAMS_MAX} programs are supervised already")
            program = {
                "spec": spec,
                "last_serial": 0,
                "restarts": 0,
                "failures": 0,
                "stopping": False,
                "generations": [],
                "previous": None,
            }
            self._programs[name] = program
            self._start_as_asked(name, program)
            return
        unchanged = program["spec"] == spec and not program["stopping"]
        program["previous"] = program["spec"]
        program["spec"], program["stopping"] = spec, False
        if not program["generations"] or (spec["hot"] and not unchanged):
            self._start_as_asked(name, program)
        elif not unchanged:
            self._replaced.add(name)
            self._save()
            self._stop_all(name, program, now=False)

    def unsupervise(self, name: str, *, now: bool, grace_seconds: float | None) -> None:
        program = self._programs.get(name)
        if program is None:
            return
        program["stopping"] = True
        if not program["generations"]:
            self._forget(name)
            return
        self._save()
        self._stop_all(name, program, now=now)
        if grace_seconds is not None:
            self._loop.after(grace_seconds, lambda: self._stop_stopping(name))

    def _stop_stopping(self, name: str) -> None:
        program = self._programs.get(name)
        if program is not None and program["stopping"]:
            self._stop_all(name, program, now=True)

    def _stop_all(self, name: str, program: Program, *, now: bool) -> None:
        for serial, _ in program["generations"]:
            self._instances.remove(_key(name, serial), now=now, keep=False)

    # -- running -----------------------------------------------------------------------------------------------------

    def _start_as_asked(self, name: str, program: Program) -> None:
        """What cannot be started is as if it had never been asked for, and the caller is told."""
        try:
            self._start(name, program)
        except (OSError, KeeperError):
            if program["generations"] and program["previous"] is not None:
                program["spec"] = program["previous"]
            elif not program["generations"]:
                self._programs.pop(name, None)
            raise

    def _start(self, name: str, program: Program) -> None:
        """The new generation is on disk before it is forked."""
        generations = program["generations"]
        epoch = generations[-1][1] + 1 if generations else 0
        program["last_serial"] += 1
        serial = program["last_serial"]
        generations.append([serial, epoch])
        try:
            self._save()
            self._fork(name, program["spec"], serial, epoch)
        except (OSError, KeeperError):
            generations.remove([serial, epoch])
            raise
        self._on_change(name)

    def _fork(self, name: str, spec: Spec, serial: int, epoch: int) -> None:
        key = _key(name, serial)
        start: records.Start = {
            "key": key,
            "log_name": name,
            "installation": "",
            "grace_seconds": GRACE_SECONDS,
            "started_at": time.time(),
            "supervised": name,
            "serial": serial,
        }
        argv = [part.replace("{restart_epoch}", str(epoch)) for part in spec["argv"]]
        command = launch.Command(
            key, self._instances.mark, argv, spec["env"], spec["cwd"], None, None, "none", expendable=False
        )
        directory, log_path = self._instances.directory_of(key), f"{self._home}/logs/{name}.log"
        order = shim.Order(
            command=command,
            directory=directory,
            log_path=log_path,
            log_bytes=LOG_BYTES,
            grace_seconds=GRACE_SECONDS,
            timeout_seconds=None,
            memory_bytes=None,
            files_limit=self._files_limit,
            fault_log=f"{self._home}/logs/keeper.log",
            subreaper=False,
        )
        self._instances.start(start, order)

    def _exited(self, instance: Instance) -> None:
        name, serial = instance.start["supervised"], instance.start["serial"]
        if not name:
            return
        if self._instances.find(instance.key) is not None:
            self._instances.collect(instance)
        self._instances.kill_orphans()
        program = self._programs.get(name)
        if program is None:
            return
        lived = (instance.exit["exited_at"] if instance.exit else time.time()) - instance.start["started_at"]
        generations = program["generations"]
        was_newest = bool(generations) and generations[-1][0] == serial
        program["generations"] = [g for g in generations if g[0] != serial]
        _log(f"{name} ended after {lived:.1f} s: {_ending(instance)}")
        program["failures"] = 0 if lived >= STEADY_SECONDS else program["failures"] + 1
        if not program["generations"]:
            self._all_ended(name, program)
        elif was_newest and lived >= HOT_SECONDS:
            # It had taken over: the older one drains or has drained, and epoch 0 cannot start beside it.
            self._stop_all(name, program, now=True)
        elif was_newest and program["previous"] is not None:
            program["spec"] = program["previous"]
            self._save()
        self._on_change(name)

    def _all_ended(self, name: str, program: Program) -> None:
        if program["stopping"]:
            self._forget(name)
        elif program["spec"]["restart"] or name in self._replaced:
            self._replaced.discard(name)
            self._start_later(name, program)

    def _start_later(self, name: str, program: Program) -> None:
        if name in self._due:
            return
        self._due.add(name)
        delay = BACKOFF_SECONDS[min(max(program["failures"] - 1, 0), len(BACKOFF_SECONDS) - 1)]
        self._loop.after(delay, lambda: self._start_due(name))

    def _start_due(self, name: str) -> None:
        self._due.discard(name)
        program = self._programs.get(name)
        if program is None or program["stopping"] or program["generations"]:
            return
        program["restarts"] += 1
        try:
            self._start(name, program)
        except (OSError, KeeperError) as failed:
            _log(f"{name} could not be started: {failed}")
            program["failures"] += 1
            self._start_later(name, program)

    def _forget(self, name: str) -> None:
        self._programs.pop(name, None)
        self._save()
        self._on_change(name)

    def _save(self) -> None:
        try:
            records.write_json(self._file, self._programs)
        except OSError as failed:
            # On a full disk the programs must still be kept running; a new keeper then finds them by their records.
            _log(f"{self._file} was not written: {failed}")


def _key(name: str, serial: int) -> str:
    return f"supervised/{name}/{serial}"


def _ending(instance: Instance) -> str:
    ending = instance.exit
    if ending is None:
        return "unknown"
    if ending["error"]:
        return f"{ending['error_class']}: {ending['error']}"
    return f"signal {ending['exit_signal']}" if ending["exit_signal"] else f"exit code {ending['exit_code']}"


def _log(message: str) -> None:
    sys.stderr.write(message + "\n")
