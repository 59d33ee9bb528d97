"""All instances of a home, each behind its shim: started, found again, ended, collected.

An instance counts as running until nothing of its tree is left. A shim that vanished without an exit record (killed, or
the host rebooted) is *lost*: what is left of its tree is hunted down first, by parentage (orphans of our shims become
our children) and by the tag in the environment, and only then does the instance count as exited.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

from spinyard.keeper import kernel, logs, records, shim, tree
from spinyard.keeper.errors import KeeperError, from_os
from spinyard.keeper.loop import READ, Loop
from spinyard.ports.keeper import InstanceState

INSTANCES_MAX: Final = 5000
HUNT_SECONDS: Final = 0.05
STUCK_SHIM_SECONDS: Final = 15.0
"""How long past the grace a shim may take to end its tree before it is ended itself."""
SCAN_SECONDS: Final = 1.0


class Instance:
    __slots__ = ("_identity", "directory", "exit", "key", "lost", "pidfd", "removing", "shim_pid", "start")

    def __init__(self, directory: str, start: records.Start) -> None:
        self.directory = directory
        self.key = start["key"]
        self.start = start
        self._identity: records.Identity | None = None
        self.exit: records.Exit | None = None
        self.shim_pid = 0
        self.pidfd = -1
        self.removing = False
        self.lost = ""

    @property
    def identity(self) -> records.Identity | None:
        if self._identity is None:
            self._identity = records.read_record(f"{self.directory}/identity.json", records.Identity)
        return self._identity


class Instances:
    def __init__(self, home: str, loop: Loop, installation: Callable[[], str]) -> None:
        self._home = home
        self._root = f"{home}/run/instances"
        self._loop = loop
        self._installation = installation
        self.mark = tree.mark_of(home)
        self._all: dict[str, Instance] = {}
        self._strays: dict[str, list[tuple[int, int]]] = {}
        self._scanned_at = -SCAN_SECONDS
        self._hunting = False
        self.other_children: Callable[[], set[int]] = set
        self.on_exit: list[Callable[[Instance], None]] = []
        os.makedirs(self._root, mode=0o700, exist_ok=True)

    # -- asked ------------------------------------------------------------------------------------------------------

    def find(self, key: str) -> Instance | None:
        return self._all.get(key)

    def all(self) -> list[Instance]:
        return list(self._all.values())

    def state(self, key: str) -> InstanceState | None:
        instance = self._all.get(key)
        if instance is not None:
            return self.state_of(instance)
        if key in self._strays and (left := self.scan_strays().get(key)):
            return _stray_state(key, left[0][0])
        return None

    def state_of(self, instance: Instance) -> InstanceState:
        identity, ending, start = instance.identity, instance.exit, instance.start
        state: InstanceState = {
            "key": instance.key,
            "state": "running" if ending is None else "exited",
            "pid": identity["pid"] if identity is not None else 0,
            "started_at": start["started_at"],
            "exited_at": None,
            "exit_code": None,
            "exit_signal": None,
            "error_class": "",
            "error": "",
            "peak_memory_bytes": 0,
            "cpu_seconds": 0.0,
        }
        if ending is not None:
            state.update(ending)  # type: ignore[typeddict-item]
            state["log_tail"] = logs.tail_of(logs.log_path(self._home, start["log_name"], instance.key))
        return state

    def scan_strays(self) -> dict[str, list[tuple[int, int]]]:
        """Processes with our token whose instance does not run. At most one scan of /proc in SCAN_SECONDS."""
        now = time.monotonic()
        tag = self._tag(self._installation())
        if tag.installation and now - self._scanned_at >= SCAN_SECONDS:
            found = tree.find_tagged(tag)
            self._strays = {key: left for key, left in found.items() if not self._is_running(key)}
            self._scanned_at = time.monotonic()
        return self._strays

    def _tag(self, installation: str) -> tree.Tag:
        return tree.Tag(installation, self.mark)

    def _is_running(self, key: str) -> bool:
        instance = self._all.get(key)
        return instance is not None and instance.exit is None

    # -- start ------------------------------------------------------------------------------------------------------

    def directory_of(self, key: str) -> str:
        return f"{self._root}/{records.name_of(key)}"

    def start(self, start: records.Start, order: shim.Order) -> Instance:
        """Writes before it forks: a keeper that dies in between leaves a record, never an unknown process."""
        if len(self._all) >= INSTANCES_MAX:
            raise KeeperError(
                "CapacityUnavailable", f"this keeper has {INSTANCES_MAX} instances already", retryable=True
            )
        directory = order.directory
        instance = Instance(directory, start)
        try:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            records.reserve_exit(directory)
            records.write_json(f"{directory}/start.json", start)
            pid = shim.fork()
        except OSError as failed:
            records.delete(directory)
            raise from_os(failed) from failed
        if pid == 0:
            shim.become(order)
        instance.shim_pid = pid
        self._all[instance.key] = instance
        self._follow(instance, os.pidfd_open(pid))  # our own child, not reaped yet: it cannot be anybody else
        return instance

    def _follow(self, instance: Instance, pidfd: int) -> None:
        instance.pidfd = pidfd
        self._loop.watch(pidfd, READ, lambda _mask: self._shim_ended(instance))

    # -- found again ------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """What earlier keepers left: running (adopted), exited meanwhile, or lost."""
        for name in os.listdir(self._root):
            directory = f"{self._root}/{name}"
            key = records.key_of(name)
            if not records.is_key(key) or not os.path.isdir(directory):
                _log(f"{directory} is not a record of ours, it is left alone")
                continue
            start = records.read_record(f"{directory}/start.json", records.Start)
            instance = Instance(directory, start or _unreadable_start(key))
            instance.removing = os.path.exists(f"{directory}/remove")
            self._all[instance.key] = instance
            self._find_again(instance)

    def _find_again(self, instance: Instance) -> None:
        instance.exit = records.read_exit(instance.directory)
        pidfd = None if instance.exit else self._open_shim(instance)
        if pidfd is not None:
            self._follow(instance, pidfd)
        elif instance.exit is None:
            self._lose(instance)
        elif instance.removing:
            self.collect(instance)

    def _open_shim(self, instance: Instance) -> int | None:
        """The kernel says who holds the instance's lock; asked again with the pidfd open, the answer cannot be about
        another process. What the shim wrote about itself must agree."""
        holder = records.holder_of(instance.directory)
        if not holder:
            return None
        try:
            pidfd = os.pidfd_open(holder)
        except OSError:
            return None
        identity = instance.identity
        stat = kernel.read_stat(holder)
        agrees = identity is None or (
            stat is not None
            and (holder, stat.start_ticks) == (identity["shim_pid"], identity["shim_start"])
            and identity["boot_id"] == kernel.boot_id()
        )
        if agrees and records.holder_of(instance.directory) == holder:
            instance.shim_pid = holder
            return pidfd
        os.close(pidfd)
        return None

    # -- ended ------------------------------------------------------------------------------------------------------

    def remove(self, key: str, *, now: bool, keep: bool) -> None:
        """`keep`: the record of how it ended stays until it is removed again."""
        instance = self._all.get(key)
        if instance is None:
            self._kill_strays(key)
        elif instance.exit is not None:
            self.collect(instance)
        else:
            if not keep:
                self._mark(instance)
            self.stop(instance, now=now)

    def stop(self, instance: Instance, *, now: bool) -> None:
        if instance.pidfd < 0:
            return  # lost: being hunted already
        kernel.send(instance.pidfd, shim.KILL if now else shim.STOP)
        kernel.send(instance.pidfd, signal.SIGCONT)
        patience = STUCK_SHIM_SECONDS + (0.0 if now else instance.start["grace_seconds"])
        self._loop.after(patience, lambda: self._end_stuck(instance))

    def _end_stuck(self, instance: Instance) -> None:
        if instance.pidfd >= 0 and instance.exit is None:
            _log(f"the shim of {instance.key} did not end its tree in time: ending the shim")
            kernel.send(instance.pidfd, signal.SIGKILL)

    def _mark(self, instance: Instance) -> None:
        instance.removing = True
        try:
            os.close(os.open(f"{instance.directory}/remove", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as failed:
            # Only a new keeper needs the mark, and there the caller asks again.
            _log(f"{instance.key}: the mark of removal was not written: {failed}")

    def collect(self, instance: Instance) -> None:
        records.delete(instance.directory)
        self._all.pop(instance.key, None)

    def _kill_strays(self, key: str) -> None:
        for pid, start_ticks in self._strays.get(key, ()):
            tree.kill_tagged(pid, start_ticks, key, self._tag(self._installation()))
        self._scanned_at = -SCAN_SECONDS

    def _shim_ended(self, instance: Instance) -> None:
        self._loop.forget(instance.pidfd)
        os.close(instance.pidfd)
        instance.pidfd = -1
        instance.shim_pid = 0
        instance.exit = records.read_exit(instance.directory)
        if instance.exit is None:
            self._lose(instance)
        else:
            self._exited(instance)

    def _exited(self, instance: Instance) -> None:
        if instance.removing:
            self.collect(instance)
        for callback in self.on_exit:
            callback(instance)

    # -- lost -------------------------------------------------------------------------------------------------------

    def _lose(self, instance: Instance) -> None:
        identity = instance.identity
        rebooted = identity is not None and identity["boot_id"] != kernel.boot_id()
        instance.lost = "the host was rebooted" if rebooted else "its shim ended without a word (killed?)"
        if not self._hunting:
            self._hunting = True
            self._loop.after(0.0, self._hunt)

    def _hunt(self) -> None:
        """Until nothing is left of the trees of the lost. One scan serves them all."""
        lost = [instance for instance in self._all.values() if instance.lost and instance.exit is None]
        orphans = self.kill_orphans()
        found: dict[str, dict[str, list[tuple[int, int]]]] = {}
        for instance in lost:
            tag = self._tag(instance.start["installation"])
            if tag.installation and tag.installation not in found:
                found[tag.installation] = tree.find_tagged(tag)
            left = found.get(tag.installation, {}).get(instance.key, [])
            for pid, start_ticks in left:
                tree.kill_tagged(pid, start_ticks, instance.key, tag)
            if not left and not orphans:
                self._settle(instance)
        self._hunting = any(instance.lost and instance.exit is None for instance in self._all.values())
        if self._hunting:
            self._loop.after(HUNT_SECONDS, self._hunt)

    def kill_orphans(self) -> int:
        """Children that we did not start were left to us by the death of a shim or of a supervised program."""
        known = {instance.shim_pid for instance in self._all.values()} | self.other_children()
        orphans = [pid for pid in tree.children_of(os.getpid()) if pid not in known]
        for pid in orphans:
            os.kill(pid, signal.SIGKILL)  # our own child, not yet reaped: the number cannot be anybody else's
        return len(orphans)

    def _settle(self, instance: Instance) -> None:
        ending: records.Exit = {
            "exited_at": time.time(),
            "exit_code": None,
            "exit_signal": None,
            "error_class": "InstanceLost",
            "error": instance.lost,
            "peak_memory_bytes": 0,
            "cpu_seconds": 0.0,
        }
        lock = records.lock_exit(instance.directory)
        if lock is not None:
            # Holding the lock while writing: a shim that was forked and has not begun yet finds it and never begins.
            records.write_exit(lock, ending)
            os.close(lock)
        instance.exit = records.read_exit(instance.directory) or ending
        self._exited(instance)


def _unreadable_start(key: str) -> records.Start:
    return {
        "key": key,
        "log_name": "",
        "installation": "",
        "grace_seconds": 0.0,
        "started_at": 0.0,
        "supervised": "",
        "serial": 0,
    }


def _stray_state(key: str, pid: int) -> InstanceState:
    return {
        "key": key,
        "state": "running",
        "pid": pid,
        "started_at": 0.0,
        "exited_at": None,
        "exit_code": None,
        "exit_signal": None,
        "error_class": "InstanceLost",
        "error": "a process of ours whose record is lost",
        "peak_memory_bytes": 0,
        "cpu_seconds": 0.0,
    }


def _log(message: str) -> None:
    sys.stderr.write(message + "\n")
