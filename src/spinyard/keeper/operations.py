"""The operations of the protocol, one method each: it returns the answer's fields, or None when it answers later."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypedDict

from spinyard.keeper import capabilities, kernel, launch, logs, records, requests, shim, surroundings
from spinyard.keeper.directories import Directories
from spinyard.keeper.errors import KeeperError, NotYet, from_os
from spinyard.keeper.instances import Instance, Instances
from spinyard.keeper.loop import Loop
from spinyard.keeper.requests import Request
from spinyard.keeper.runs import Runs
from spinyard.keeper.supervise import Supervisor
from spinyard.keeper.wire import Connection, refusal
from spinyard.ports.keeper import PROTOCOL_VERSION, EnvEntry

OUTPUT_BYTES_DEFAULT: Final = 64 << 10
OUTPUT_BYTES_MAX: Final = 4 << 20
RUN_SECONDS_MAX: Final = 86400.0
GRACE_DEFAULT: Final = 30.0
NOT_YET_SECONDS: Final = 0.01
NOT_YET_TRIES: Final = 100
Fields = dict[str, Any] | None


class _Memory(TypedDict):
    epoch: int
    installation: str


class Operations:
    def __init__(self, home: str, loop: Loop, files_limit: tuple[int, int]) -> None:
        self._home = home
        self._loop = loop
        self._files_limit = files_limit
        self._started_at = time.time()
        self._memory_file = f"{home}/run/keeper.json"
        remembered: _Memory | None = records.read_record(self._memory_file, _Memory)
        self._epoch = remembered["epoch"] if remembered else 0
        self._installation = remembered["installation"] if remembered else ""
        self._clients: set[Connection] = set()
        self._stopping = False
        self.instances = Instances(home, loop, lambda: self._installation)
        self.runs = Runs(loop)
        self.directories = Directories(home, loop)
        self.supervisor = Supervisor(
            home, loop, self.instances, files_limit, lambda name: self._tell("supervised", "name", name)
        )
        self.instances.other_children = lambda: self.runs.pids() | self.directories.pids()
        self.instances.on_exit.append(self._instance_exited)
        self._table: dict[str, Callable[[Request, Connection], Fields]] = {
            "hello": self._hello,
            "claim_epoch": self._claim_epoch,
            "start": self._start,
            "observe": self._observe,
            "list": self._list,
            "remove": self._remove,
            "run": self._run,
            "mkdir": self._mkdir,
            "rmdir": self._rmdir,
            "dirs": self._dirs,
            "logs": self._logs,
            "supervise": self._supervise,
            "supervised": self._supervised,
            "unsupervise": self._unsupervise,
            "subscribe": self._subscribe,
            "capabilities": self._capabilities,
            "stop": self._stop,
        }

    def load(self) -> None:
        self.instances.load()
        self.supervisor.resume()

    def answer(self, client: Connection, line: bytes, tries_left: int = NOT_YET_TRIES) -> None:
        request_id: object = 0
        try:
            request = requests.parse(line)
            request_id = request.get("id", 0)
            operation = self._table.get(str(request.get("op", "")))
            if operation is None:
                raise KeeperError(
                    "UnknownOperation", f"this keeper (protocol {PROTOCOL_VERSION}) does not know that op"
                )
            fields = operation(request, client)
        except KeeperError as refused:
            if isinstance(refused, NotYet) and tries_left and not client.closed:
                self._loop.after(NOT_YET_SECONDS, lambda: self.answer(client, line, tries_left - 1))
                return
            client.send(_refusal(request_id, refused))
        except OSError as failed:
            client.send(_refusal(request_id, from_os(failed)))
        except Exception as failed:  # noqa: BLE001  (the parent of everything answers, writes it down and goes on)
            sys.excepthook(*sys.exc_info())
            client.send(refusal(request_id, "Internal", f"a fault of the keeper: {failed!r:.300}"))
        else:
            if fields is not None:
                client.send({"id": request_id, "ok": True, **fields})

    # -- who drives ---------------------------------------------------------------------------------------------------

    def _hello(self, _request: Request, _client: Connection) -> Fields:
        return {
            "version": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "boot_id": kernel.boot_id(),
            "started_at": self._started_at,
            "epoch": self._epoch,
        }

    def _claim_epoch(self, request: Request, _client: Connection) -> Fields:
        self._fence(request)
        return {"epoch": self._epoch}

    def _fence(self, request: Request, *, optional: bool = False) -> None:
        """A driver that was replaced must not change anything any more. The highest epoch seen survives the keeper."""
        epoch = requests.whole_of(request, "epoch", least=0)
        if epoch is None:
            if optional:
                return
            raise KeeperError("InvalidRequest", "epoch: whatever changes something says its lease epoch")
        if epoch < self._epoch:
            raise KeeperError("StaleEpoch", f"epoch {epoch} was replaced by {self._epoch}: this driver lost its lease")
        if epoch > self._epoch:
            self._remember(epoch, self._installation)

    def _remember(self, epoch: int, installation: str) -> None:
        records.write_json(self._memory_file, {"epoch": epoch, "installation": installation})
        self._epoch, self._installation = epoch, installation

    # -- instances ----------------------------------------------------------------------------------------------------

    def _start(self, request: Request, _client: Connection) -> Fields:
        self._fence(request)
        key = requests.key_of(request)
        if self.instances.find(key) is not None:
            return {}
        if self._stopping:
            raise KeeperError("CapacityUnavailable", "this keeper is stopping", retryable=True)
        command = requests.command_of(request, key, self.instances.mark)._replace(kept=(f"{self._home}/data",))
        order = self._order_of(request, command)
        _check_ports(requests.ports_of(request))
        start: records.Start = {
            "key": key,
            "log_name": requests.log_name_of(request),
            "installation": self._installation_of(command.env),
            "grace_seconds": order.grace_seconds,
            "started_at": time.time(),
            "supervised": "",
            "serial": 0,
        }
        self.instances.start(start, order)
        return {}

    def _order_of(self, request: Request, command: launch.Command) -> shim.Order:
        log_bytes = requests.whole_of(request, "log_bytes", least=1024) or requests.LOG_BYTES_DEFAULT
        return shim.Order(
            command=command,
            directory=self.instances.directory_of(command.key),
            log_path=logs.log_path(self._home, requests.log_name_of(request), command.key),
            log_bytes=min(log_bytes, requests.LOG_BYTES_MAX),
            grace_seconds=requests.number_of(request, "grace_seconds", GRACE_DEFAULT) or 0.0,
            timeout_seconds=requests.number_of(request, "timeout_seconds", None),
            memory_bytes=requests.whole_of(request, "memory_bytes"),
            files_limit=self._files_limit,
            fault_log=f"{self._home}/logs/keeper.log",
        )

    def _installation_of(self, env: list[EnvEntry]) -> str:
        installation = next(
            (str(entry.get("value", "")) for entry in env if entry["name"] == "SPINYARD_INSTALLATION"), ""
        )
        if installation and installation != self._installation:
            self._remember(self._epoch, installation)
        return installation

    def _observe(self, request: Request, _client: Connection) -> Fields:
        return {"instance": self.instances.state(requests.key_of(request))}

    def _list(self, _request: Request, _client: Connection) -> Fields:
        shown = [instance for instance in self.instances.all() if not instance.start["supervised"]]
        strays = [
            {"pid": pid, "key": key}
            for key, found in self.instances.scan_strays().items()
            for pid, _ in found
            if not key.startswith("supervised/")
        ]
        states: list[dict[str, Any]] = [dict(self.instances.state_of(instance)) for instance in shown]
        for state in states:
            state.pop("log_tail", None)  # of thousands, it would be megabytes
        return {"instances": states, "strays": strays}

    def _remove(self, request: Request, _client: Connection) -> Fields:
        self._fence(request)
        now, keep = requests.flag_of(request, "now"), requests.flag_of(request, "keep")
        self.instances.remove(requests.key_of(request), now=now, keep=keep)
        return {}

    def _instance_exited(self, instance: Instance) -> None:
        if not instance.start["supervised"]:
            self.runs.end_beside(instance.key)
            self._tell("exit", "key", instance.key)

    def _run(self, request: Request, client: Connection) -> Fields:
        self._fence(request, optional=True)
        key = requests.key_of(request)
        command = requests.command_of(request, key, self.instances.mark)._replace(expendable=False)
        is_beside = requests.flag_of(request, "merge_env")
        if is_beside:
            command = self._beside(command)
        order = shim.Order(
            command=command,
            directory="",
            log_path="",
            log_bytes=0,
            grace_seconds=requests.number_of(request, "grace_seconds", 0.0) or 0.0,
            timeout_seconds=requests.number_of(request, "timeout_seconds", RUN_SECONDS_MAX),
            memory_bytes=requests.whole_of(request, "memory_bytes"),
            files_limit=self._files_limit,
            fault_log=f"{self._home}/logs/keeper.log",
            output_bytes=min(requests.whole_of(request, "output_bytes", 0) or OUTPUT_BYTES_DEFAULT, OUTPUT_BYTES_MAX),
            stream=requests.flag_of(request, "stream"),
        )
        beside = key if is_beside else ""
        answer = lambda fields: client.send({"id": request.get("id", 0), **fields})  # noqa: E731
        self.runs.start(order, client, answer, beside=beside)
        return None

    def _beside(self, command: launch.Command) -> launch.Command:
        """With environment and directory of the instance's program as they are now: nothing is kept here for it."""
        instance = self.instances.find(command.key)
        if instance is None or instance.exit is not None:
            raise KeeperError("NotFound", f"the instance {command.key} does not run", retryable=True)
        found = surroundings.of(instance)
        if found is None:
            raise NotYet("NotFound", f"the instance {command.key} has not been executed yet", retryable=True)
        return command._replace(
            environ=found.environ, cwd=command.cwd or found.directory, beside=found.pid if found.isolated else 0
        )

    # -- directories and logs -----------------------------------------------------------------------------------------

    def _mkdir(self, request: Request, _client: Connection) -> Fields:
        self._fence(request)
        return {"path": self.directories.make(requests.key_of(request))}

    def _rmdir(self, request: Request, _client: Connection) -> Fields:
        self._fence(request)
        self.directories.remove(requests.key_of(request))
        return {}

    def _dirs(self, request: Request, _client: Connection) -> Fields:
        key = requests.key_of(request) if "key" in request else ""
        return {"dirs": self.directories.list(key)}

    def _logs(self, request: Request, _client: Connection) -> Fields:
        return {"directory": f"{self._home}/logs/{requests.log_name_of(request)}"}

    # -- supervised programs ------------------------------------------------------------------------------------------

    def _supervise(self, request: Request, _client: Connection) -> Fields:
        self._fence(request, optional=True)
        if self._stopping:
            raise KeeperError("CapacityUnavailable", "this keeper is stopping", retryable=True)
        self.supervisor.supervise(requests.name_of(request), requests.spec_of(request))
        return {}

    def _supervised(self, _request: Request, _client: Connection) -> Fields:
        return {"supervised": self.supervisor.states()}

    def _unsupervise(self, request: Request, _client: Connection) -> Fields:
        self._fence(request, optional=True)
        now = request.get("signal") in (9, "SIGKILL", "KILL")
        grace = requests.number_of(request, "grace_seconds", None)
        self.supervisor.unsupervise(requests.name_of(request), now=now, grace_seconds=grace)
        return {}

    # -- this keeper --------------------------------------------------------------------------------------------------

    def _subscribe(self, _request: Request, client: Connection) -> Fields:
        client.subscribed = True
        self._clients.add(client)
        client.on_close.append(lambda: self._clients.discard(client))
        return {}

    def _tell(self, event: str, field: str, value: str) -> None:
        for client in list(self._clients):
            client.send({"event": event, field: value})

    def _capabilities(self, _request: Request, _client: Connection) -> Fields:
        return {"capabilities": capabilities.describe()}

    def _stop(self, request: Request, _client: Connection | None = None) -> Fields:
        """Supervised programs end in any case, unless this keeper is only to be replaced (`keep_supervised`)."""
        self._fence(request, optional=True)
        with_instances = requests.flag_of(request, "instances")
        self._stopping = True
        if not requests.flag_of(request, "keep_supervised"):
            for name in self.supervisor.names():
                self.supervisor.unsupervise(name, now=False, grace_seconds=None)
        if with_instances:
            for instance in self.instances.all():
                if not instance.start["supervised"]:
                    self.instances.remove(instance.key, now=False, keep=False)
        self._end_when_quiet(with_instances, bool(request.get("keep_supervised")))
        return {}

    def end_everything(self) -> None:
        self._stop({"instances": True})

    def _end_when_quiet(self, with_instances: bool, keep_supervised: bool) -> None:
        waits = any(
            (with_instances if not instance.start["supervised"] else not keep_supervised)
            for instance in self.instances.all()
        )
        if waits:
            self._loop.after(0.05, lambda: self._end_when_quiet(with_instances, keep_supervised))
        else:
            self._loop.running = False


def _refusal(request_id: object, refused: KeeperError) -> dict[str, Any]:
    return refusal(request_id, refused.error_class, refused.message, retryable=refused.retryable)


def _check_ports(ports: list[int]) -> None:
    """Free means: nobody listens there. SO_REUSEADDR lets past what only lingers from closed connections."""
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
                probe.listen(1)
            except OSError as failed:
                raise KeeperError(
                    "PortUnavailable", f"port {port} is taken: {failed.strerror}", retryable=True
                ) from failed
