"""Where a contract comes from: a file, a URL, or the user's own code, which is imported in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from spinyard.cli.exits import Usage
from spinyard.clock import SystemClock
from spinyard.errors import NotFound, SystemFailure, Unreachable

Json = dict[str, Any]

FETCH_SECONDS = 20.0
IMPORT_SECONDS = 60.0
BYTES_MAX = 8 << 20
_OUTPUT_BYTES_MAX = 64 << 20
_OBJECT = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_SOURCES = "a file (.yaml, .json, .py), - for standard input, a URL, or module:object"


def load(source: str) -> bytes | Json:
    """What a source says, not yet checked: bytes of a document, or the document itself."""
    if re.match(r"https?://", source):
        return fetch(source)
    if source.endswith(".py") or (_OBJECT.fullmatch(source) and not os.path.exists(source)):
        if source.endswith(".py") and not os.path.isfile(source):
            raise NotFound(f"there is no file {source}")
        return extract(source)
    return read_file(source)


def read_file(path: str) -> bytes:
    try:
        if path == "-":
            if sys.stdin is None:
                raise Usage("standard input is closed")
            return sys.stdin.buffer.read(BYTES_MAX + 1)
        with open(path, "rb") as file:
            return file.read(BYTES_MAX + 1)
    except FileNotFoundError as cause:
        raise NotFound(f"there is no file {path}", next_step=f"give {_SOURCES}") from cause
    except OSError as cause:
        raise Usage(f"cannot read {path}: {cause.strerror}") from cause


def fetch(url: str) -> bytes:
    """Raises Unreachable."""
    import http.client
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not urlsplit(url).hostname:
        raise Usage(f"{url} names no host")
    clock = SystemClock()
    end = clock.monotonic() + FETCH_SECONDS
    data: bytes = b""
    try:
        asked = Request(url, headers={"accept": "application/json, application/yaml, */*"})
        with urlopen(asked, timeout=FETCH_SECONDS) as answer:
            while chunk := answer.read1(1 << 16):
                data += chunk
                if len(data) > BYTES_MAX:
                    break  # the comparison refuses it, in words
                if clock.monotonic() > end:
                    raise TimeoutError(f"not finished after {FETCH_SECONDS:.0f} s")
    except HTTPError as cause:
        raise NotFound(
            f"{url} answered {cause.code}",
            code="not_found" if cause.code == 404 else "bad_answer",
            next_step="give the URL of the OpenAPI document itself, like http://127.0.0.1:8000/openapi.json",
        ) from cause
    except (OSError, ValueError, http.client.HTTPException) as cause:
        reason = getattr(cause, "reason", None) or cause
        raise Unreachable(f"{url} cannot be fetched: {reason}", next_step="check that it runs and answers") from cause
    return data


def extract(target: str) -> Json:
    """The document of a .py file or a module:object. The code runs in a child, for at most IMPORT_SECONDS."""
    code, out, err = run_child("spinyard.cli.contract_child", [target], b"", IMPORT_SECONDS)
    if code is None:
        raise Usage(
            f"importing {target} did not end within {IMPORT_SECONDS:.0f} s",
            code="cannot_extract",
            next_step="what is imported must not start servers or wait: guard that with `if __name__ == '__main__'`",
        )
    try:
        answer = json.loads(out)
    except ValueError as cause:
        tail = err.decode(errors="replace").strip().splitlines()[-5:]
        raise Usage(
            f"importing {target} ended its process (exit code {code})",
            code="cannot_extract",
            next_step="import it by hand and look",
            details={"errors": tail},
        ) from cause
    problem = answer.get("problem")
    if problem:
        raise Usage(
            problem["message"],
            code=problem["code"],
            next_step=problem["nextStep"],
            details={"errors": problem.get("lines", [])},
        )
    document: Json = answer["document"]
    return document


def run_child(module: str, words: Sequence[str], given: bytes, seconds: float) -> tuple[int | None, bytes, bytes]:
    """Runs a module of ours with this Python. The exit code is None when it was ended after `seconds`, with all that it
    started. Output goes through files: what a grandchild holds open keeps nobody waiting."""
    with tempfile.TemporaryFile() as sent, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        sent.write(given)
        sent.seek(0)
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", module, *words], stdin=sent, stdout=out, stderr=err, start_new_session=True
            )
        except OSError as cause:
            raise SystemFailure(f"no process could be started: {cause.strerror}") from cause
        try:
            code: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        return code, out.read(_OUTPUT_BYTES_MAX), err.read(_OUTPUT_BYTES_MAX)
