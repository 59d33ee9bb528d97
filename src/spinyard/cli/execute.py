"""A command in an instance: what it writes goes out as it comes, its exit code is ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from spinyard.cli.options import Common
from spinyard.cli.output import print_data
from spinyard.cli.streams import raw_of
from spinyard.client import Client

OUTPUT_BYTES_MAX = 4 << 20
"""of what -o json keeps"""
SECONDS_MAX = 86_400.0


def execute(
    client: Client, common: Common, namespace: str, spin: str, command: Sequence[str], *, timeout_seconds: float
) -> int:
    """Leaving it in any way (Ctrl-C, a closed pipe) ends the command. Its stdin is empty."""
    kept = bytearray()
    size = 0
    with client.run_command(namespace, spin, command, timeout_seconds=timeout_seconds) as parts:
        for part in parts:
            if part.type == "exit":
                break
            size += len(part.data)
            if common.is_data:
                kept += part.data[: max(0, OUTPUT_BYTES_MAX - len(kept))]
            else:
                _write(part.type, part.data)
    if common.is_data:
        answer: dict[str, Any] = {"exitCode": part.exit_code, "output": kept.decode(errors="replace"), "why": part.why}
        print_data(answer | {"truncated": size > len(kept)}, common.output)
    elif part.why:
        print(f"spinyard: the command was ended: {part.why}", file=sys.stderr)
    return part.exit_code


def _write(name: str, data: bytes) -> None:
    """As the command wrote it, at once: the command is the user's own."""
    stream = raw_of(sys.stderr if name == "stderr" else sys.stdout)
    stream.flush()
    try:
        fd = stream.fileno()
    except OSError:
        stream.write(data.decode(errors="replace"))
        return
    while data:
        data = data[os.write(fd, data) :]
