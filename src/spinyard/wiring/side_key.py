"""The private key of the tokens that let a tester choose a side of a spinout: made once for each home, kept in it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from spinyard.usecases.forced_side import new_key
from spinyard.wiring.token import is_own_token


@dataclass(slots=True)
class SideKey:
    """May be called by several threads."""

    path: Path
    value: str = ""
    _one_at_a_time: Lock = field(default_factory=Lock)

    def __call__(self) -> str:
        """The same as long as the file is ours alone; else another one. Tokens of the old one end for a Spinout when
        the first of the new one is made for it."""
        with self._one_at_a_time:
            if not self.value:
                if not is_own_token(self.path):
                    self._write(new_key())
                self.value = self.path.read_text()
            return self.value

    def _write(self, text: str) -> None:
        fresh = self.path.with_suffix(".new")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
        fresh.replace(self.path)
