"""What goes to the terminal: nothing that others wrote may move its cursor, change its title, or hide what is there.

Names, messages, logs and annotations come from programs and from other people. Every command's output goes through
`Printable`, so none can forget it; only our own colours pass. Bytes for a pipe are written to `buffer`, untouched.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, Final

from spinyard import errors

# C0 but tab and newline, DEL, C1, line separators, and what reverses the order of letters.
_UNSAFE: Final = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"
_HIDDEN: Final = re.compile(f"[{_UNSAFE}]")
_HIDDEN_BUT_OURS: Final = re.compile(f"(\x1b\\[(?:0|2|3[1-6])m)|[{_UNSAFE}]")
_HIDDEN_BUT_COLOURS: Final = re.compile(f"(\x1b\\[[0-9;]{{0,30}}m)|[{_UNSAFE}]")
RESET: Final = "\x1b[0m"


class OutputFailed(errors.SystemFailure):
    code = "output_failed"


def printable(text: str) -> str:
    """Without anything that acts on a terminal: `\\x1b[2J` as these seven letters. Newlines and tabs stay."""
    return _HIDDEN.sub(_spelt, text)


def coloured(text: str) -> str:
    """As `printable`, for a program's log: its colours stay, and end where the text ends."""
    return _ended(_HIDDEN_BUT_COLOURS.sub(_spelt, text))


def _ended(text: str) -> str:
    """A colour goes no further than the text that has it."""
    last = text.rfind("\x1b")
    return text if last < 0 or text.startswith(RESET, last) else text + RESET


def json_text(text: str) -> str:
    """JSON as it is, with what acts on a terminal as escapes of JSON."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_printable(text: str) -> bool:
    return _HIDDEN.search(text) is None


def is_utf8(stream: IO[str]) -> bool:
    return (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"


class Printable:
    """A text stream that writes only what is printable, and our own colours. Everything else is the stream's."""

    def __init__(self, stream: IO[str]) -> None:
        self.raw = stream

    def write(self, text: str) -> int:
        with _told():
            self.raw.write(_ended(_HIDDEN_BUT_OURS.sub(_spelt, text)))
        return len(text)

    def flush(self) -> None:
        with _told():
            self.raw.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as failed:
        raise OutputFailed(
            f"cannot write the output: {failed.strerror}", next_step="write it to where there is room"
        ) from failed


def raw_of(stream: IO[str]) -> IO[str]:
    """For who draws on the terminal itself."""
    return stream.raw if isinstance(stream, Printable) else stream


@contextmanager
def guarded() -> Iterator[None]:
    """stdout and stderr for the time of a command: printable, there even when closed, and never failing for a letter
    that their encoding does not have."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _opened(sys.stdout), _opened(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _opened(stream: IO[str] | None) -> Any:
    if stream is None:
        return open(os.devnull, "w")
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    return stream if isinstance(stream, Printable) else Printable(stream)


def _spelt(found: re.Match[str]) -> str:
    if found.lastindex:
        return found[0]
    code = ord(found[0])
    return "\\r" if code == 13 else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
