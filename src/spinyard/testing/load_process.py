"""Load in a process of its own: the parent's side."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from spinyard.testing.load_mix import LoadSpec, check_spec
from spinyard.testing.load_result import LoadResult, read_result


class LoadProcess:
    """The load in another process, so that the parent's work does not delay it.

    `on_event` is called in a thread with each object the process prints; `latest` is the last progress.
    """

    def __init__(
        self, spec: LoadSpec, out: Path, on_event: Callable[[Mapping[str, object]], None] | None = None
    ) -> None:
        check_spec(spec)  # refuses here, with a reason, what the child would refuse
        self.out, self.latest = out, dict[str, object]()
        self._on_event = on_event
        mix = out.with_name(out.name + ".mix")
        mix.write_bytes(msgspec.json.encode(spec.mix))
        out.unlink(missing_ok=True)
        command = [sys.executable, "-m", "spinyard.testing.load", "--url", spec.url, "--rate", str(spec.rate)]
        command += ["--seconds", str(spec.seconds), "--mix", str(mix), "--out", str(out), "--seed", str(spec.seed)]
        command += ["--connections", str(spec.connections_max), "--timeout", str(spec.timeout_seconds)]
        command += ["--host", spec.host] if spec.host else []
        for header in spec.counted_headers:
            command += ["--count-header", header]
        command += ["--apart-header", spec.apart_header] if spec.apart_header else []
        command += ["--time-header", spec.timed_header] if spec.timed_header else []
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader = threading.Thread(target=self._read, name="load-events", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def set_phase(self, name: str) -> None:
        self._tell(f"phase {name}")

    def stop(self, timeout_seconds: float = 30.0) -> LoadResult:
        """Sends nothing more, waits for what is in flight. Raises RuntimeError when the process left no result."""
        self._tell("stop")
        return self.wait(timeout_seconds)

    def wait(self, timeout_seconds: float) -> LoadResult:
        """Until all was sent. After the time limit the process is killed, and RuntimeError says so."""
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as late:
            self.kill()
            raise RuntimeError(f"the load did not end within {timeout_seconds:g} s") from late
        self._reader.join(2)
        if not self.out.exists():
            raise RuntimeError(f"the load left no result (exit code {code})")
        return read_result(self.out)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            self._process.stdin.write(line.replace("\n", " ").encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = msgspec.json.decode(line, type=dict[str, object])
            if event.get("event") == "progress":
                self.latest = event
            if self._on_event:
                self._on_event(event)
