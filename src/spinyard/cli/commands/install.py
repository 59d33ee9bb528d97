"""`spinyard install`: a systemd user unit, so that the keeper is back after a reboot and starts all the rest."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import print_data
from spinyard.errors import SystemFailure


def install(
    print_only: Annotated[bool, Parameter(name="--print", help="Write the unit to standard output only.")] = False,
    common: Common = COMMON,
) -> int:
    """Write a systemd user unit for the keeper of this home to ~/.config/systemd/user."""
    home = common.home_path
    unit = unit_text(home, sys.executable, os.environ.get("PATH", ""))
    if print_only:
        sys.stdout.write(unit)
        return Exit.OK
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = config / "systemd" / "user" / "spinyard.service"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(unit)
    except OSError as cause:
        error = SystemFailure(f"cannot write {path}: {cause.strerror}", next_step="use --print and place it yourself")
        error.fault = "user"
        raise error from cause
    if common.is_data:
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "Unit", "path": str(path)}, common.output)
        return Exit.OK
    print(f"wrote {path}; now:")
    print("  systemctl --user daemon-reload")
    print("  systemctl --user enable --now spinyard")
    print("  loginctl enable-linger    # so that it runs without a login")
    return Exit.OK


def unit_text(home: Path, python: str, path: str) -> str:
    """KillMode=process: a keeper that is replaced or restarted leaves instances, Envoy and server running; the next one
    finds them."""
    for text in (str(home), python, path):
        if "\n" in text:
            raise Usage("a path with a line break cannot stand in a systemd unit")
    return f"""\
[Unit]
Description=Spinyard keeper for {_escaped(str(home))}
After=network.target

[Service]
ExecStart="{_quoted(python)}" -m spinyard.keeper --home "{_quoted(str(home))}"
Environment="PATH={_quoted(path).replace("$$", "$")}"
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=default.target
"""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Inside double quotes of ExecStart in a unit file: `%` and `$` are expanded there (in Environment only `%`)."""
    return _escaped(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
