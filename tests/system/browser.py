"""Debian's Chromium, driven over two pipes (the DevTools protocol, JSON ended by a zero byte): no driver, no port."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
PATIENCE_SECONDS = 40.0


class Page:
    """One empty tab. Whatever the page complains of is in `complaints`."""

    def __init__(self, process: subprocess.Popen[bytes], to: int, back: int) -> None:
        self._process, self._to, self._back = process, to, back
        self._buffer = b""
        self._last = 0
        self._session = ""
        self.events: list[Json] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> Json:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        wanted = self._last
        answers: list[Json] = []

        def answered() -> bool:
            answers.extend(one for one in self._read() if one.get("id") == wanted)
            return bool(answers)

        wait(method, answered)
        assert "error" not in answers[0], f"{method}: {answers[0]['error']}"
        return dict(answers[0]["result"])

    def open(self, url: str) -> None:
        with self.loading():
            failed = self.call("Page.navigate", url=url).get("errorText")
            assert not failed, f"{url}: {failed}"

    @contextlib.contextmanager
    def loading(self) -> Iterator[None]:
        """What is done inside makes the tab load a page; afterwards it is loaded."""
        seen = self._loads()
        yield
        wait("a page is loaded", lambda: self._loads() > seen)

    def value(self, expression: str) -> Any:
        """Of JavaScript, in the page; a promise is waited for."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def choose_file(self, selector: str, path: Path) -> None:
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def resize(self, width: int, height: int, *, scale: float = 1.0) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def prefer(self, scheme: str) -> None:
        """`light` or `dark`."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path, *, form: str = "png", quality: int | None = None) -> None:
        options = {} if quality is None else {"quality": quality}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format=form, **options)["data"]))

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of the console, exceptions, and requests that failed or were refused."""
        self._read()
        out = []
        for event in self.events:
            what, said = event["method"], event["params"]
            if what == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
                out.append(f"{said['entry']['text']} {said['entry'].get('url', '')}")
            elif what == "Runtime.exceptionThrown" or (
                what == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert")
            ):
                out.append(json.dumps(said))
            elif what == "Network.loadingFailed" and not said.get("canceled"):
                out.append(f"{said['type']}: {said['errorText']}")
            elif what == "Network.responseReceived" and said["response"]["status"] >= 400:
                out.append(f"{said['response']['status']} {said['response']['url']}")
        return out

    def _loads(self) -> int:
        self._read()
        return sum(event["method"] == "Page.loadEventFired" for event in self.events)

    def _read(self) -> list[Json]:
        """What has come; events are kept, answers are returned (there is none when nothing was asked)."""
        while select.select([self._back], [], [], 0.02)[0]:
            chunk = os.read(self._back, 1 << 20)
            assert chunk, f"Chromium ended with {self._process.poll()}"
            self._buffer += chunk
        *whole, self._buffer = self._buffer.split(b"\0")
        messages = [json.loads(one) for one in whole]
        self.events += [one for one in messages if "method" in one]
        return [one for one in messages if "id" in one]


def wait(what: str, check: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not check():
        assert time.monotonic() < end, f"not within {PATIENCE_SECONDS:g} s: {what}"


@contextlib.contextmanager
def browsing() -> Iterator[Page]:
    """A tab of a new Chromium with an empty profile; both are gone afterwards."""
    profile = tempfile.mkdtemp(prefix="sy-chromium-", dir="/tmp")
    their_in, to = os.pipe()
    back, their_out = os.pipe()
    script = 'exec 3<&"$1" 4>&"$2"; shift 2; exec chromium "$@"'  # it reads from 3 and writes to 4
    words = ["bash", "-c", script, "bash", str(their_in), str(their_out), *FLAGS, f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        words, pass_fds=(their_in, their_out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(their_in)
    os.close(their_out)
    try:
        yield Page(process, to, back)
    finally:
        os.close(to)  # the end of its orders is the end of Chromium
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(back)
        shutil.rmtree(profile, ignore_errors=True)
