"""Real gallery processes on a directory of their own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Instance:
    def __init__(self, data: Path, env: Mapping[str, str], program: str = "app") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"examples.gallery.{program}"],
            cwd=ROOT,
            env={**os.environ, "GALLERY_DATA": str(data), "PORT": "0", **env},
            stdout=subprocess.PIPE,
        )
        self.port = int(self.wait_event("listening")["port"])

    def wait_event(self, name: str) -> Any:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(f"the gallery ended before it said {name!r}")

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Reply:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=body, method=method, headers=dict(headers or {})
        )
        request.add_unredirected_header("Content-Type", dict(headers or {}).get("Content-Type", "image/png"))
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return Reply(answer.status, dict(answer.headers.items()), answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers.items()), error.read())

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def upload(self, data: bytes, key: str | None = None, path: str = "/photos") -> Reply:
        return self.ask("POST", path, data, {"Idempotency-Key": key} if key else {})

    def comment(self, photo_id: str, fields: object, key: str | None = None) -> Reply:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.ask("POST", f"/photos/{photo_id}/comments", json.dumps(fields).encode(), headers)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(15)


Start = Callable[..., Instance]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(FOO="1") gives a ready instance; wait=False gives one that listens and may not be ready."""
    running: list[Instance] = []

    def start_one(*, wait: bool = True, program: str = "app", **env: str) -> Instance:
        instance = Instance(tmp_path / "data", env, program)
        running.append(instance)
        if wait:
            instance.wait_event("ready")
        return instance

    yield start_one
    for instance in running:
        instance.process.kill()
        instance.process.wait()
        assert instance.process.stdout is not None
        instance.process.stdout.close()


@pytest.fixture
def png() -> Callable[[int], bytes]:
    """png(n): a small picture, another one for each n."""

    def make(number: int) -> bytes:
        out = io.BytesIO()
        Image.new("RGB", (24, 16), (number % 256, number // 256 % 256, 77)).save(out, "PNG")
        return out.getvalue()

    return make
