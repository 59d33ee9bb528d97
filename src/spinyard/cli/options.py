"""Options that many commands share. cyclopts flattens these dataclasses into the command's own options."""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from spinyard.cli.exits import Usage
from spinyard.client import Client, from_home
from spinyard.settings import default_home

RESTART_PATIENCE_SECONDS = 15.0
"""for the keeper to start a dead server again"""

Format = Literal["text", "json", "yaml", "wide", "name"]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Common:
    home: Annotated[str, Parameter(name="--home", help="The home directory; else SPINYARD_HOME, else ~/.spinyard.")] = (
        ""
    )
    output: Annotated[
        Format, Parameter(name=["--output", "-o"], help="json is a stable contract; wide has more columns.")
    ] = "text"

    @property
    def home_path(self) -> Path:
        try:
            return Path(self.home).expanduser().absolute() if self.home else default_home()
        except RuntimeError as cause:
            raise Usage(
                f"the home {self.home or 'SPINYARD_HOME'} is of no known user", next_step="give a path"
            ) from cause

    @property
    def is_data(self) -> bool:
        return self.output in ("json", "yaml")

    def client(self) -> Client:
        """Waits for a server that died and that the keeper is about to start again."""
        home = self.home_path
        return from_home(home, actor=f"{user_name()}@cli", patience_seconds=lambda: _patience_seconds(home))


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Scope:
    namespace: Annotated[str, Parameter(name=["--namespace", "-n"], help="The namespace.")] = "default"


COMMON = Common()
SCOPE = Scope()

Files = Annotated[
    tuple[str, ...],
    Parameter(
        name=["--file", "-f"], allow_leading_hyphen=True, help="A manifest; - reads standard input. May be given again."
    ),
]
Labels = Annotated[tuple[str, ...], Parameter(name=["--selector", "-l"], help="Only objects with the label KEY=VALUE.")]
Timeout = Annotated[str, Parameter(name="--timeout", help="How long to wait: 30s, 5m, 1h30m.")]


def _patience_seconds(home: Path) -> float:
    from spinyard.cli.keeper_link import is_server_kept

    return RESTART_PATIENCE_SECONDS if is_server_kept(home) else 0.0


def user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
