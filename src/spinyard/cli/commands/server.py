"""`spinyard server`, and the hidden `server-process` that the keeper runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from spinyard.cli.exits import Exit
from spinyard.cli.keeper_link import KeeperLink
from spinyard.cli.logtail import log_of, new_lines
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import print_data
from spinyard.cli.settings_file import load_settings, make_home, with_options
from spinyard.cli.start import SERVER, Started, answering, ensure_running
from spinyard.errors import SpinyardError
from spinyard.settings import Settings, default_home


def server(
    gateway: Annotated[
        str, Parameter(name="--gateway", help="HOST:PORT of user traffic; 127.0.0.1:8080 unless told.")
    ] = "",
    api: Annotated[
        str, Parameter(name="--api", help="HOST:PORT of the API; a free port of 127.0.0.1 unless told.")
    ] = "",
    tls_cert: Annotated[str, Parameter(name="--tls-cert", help="Certificate chain (PEM) of a TLS gateway.")] = "",
    tls_key: Annotated[str, Parameter(name="--tls-key", help="Its key (PEM).")] = "",
    port_range: Annotated[str, Parameter(name="--port-range", help="LOW-HIGH of the ports given to spins.")] = "",
    rotate_token: Annotated[
        bool, Parameter(name="--rotate-token", help="Make a new token; the old one is refused at once.")
    ] = False,
    take_over: Annotated[
        bool,
        Parameter(name="--take-over", help="Stop a server that runs first; Envoy and all instances go on: an upgrade."),
    ] = False,
    common: Common = COMMON,
) -> int:
    """Start keeper and server of a home, and stay attached to the server's log.

    Options are kept in HOME/settings.json: later starts, also by the keeper, do the same.
    """
    home = common.home_path
    settings = with_options(
        load_settings(home), gateway=gateway, api=api, certificate=tls_cert, key=tls_key, port_range=port_range
    )
    if rotate_token:
        make_home(home)
        _rotate(settings)
        if answering(home) is not None:
            print(f"new token in {settings.token_file}; the server that runs goes on, the old token is refused")
            return Exit.OK
    started = ensure_running(settings, replace_server=True, take_over=take_over)
    if common.is_data:
        print_data(_as_data(started, home), common.output)
        return Exit.OK
    return _stay(settings, started)


def server_process(common: Common = COMMON) -> int:
    """The server itself, in the foreground; the keeper runs it."""
    from spinyard.wiring import serve

    settings = load_settings(common.home_path)
    failure = settings.run_dir / "server-error.json"
    failure.unlink(missing_ok=True)
    try:
        return int(serve(settings))
    except SpinyardError as error:
        # For the command that waits for us: a log tail alone would not say whose fault it is.
        told = {"message": error.message, "code": error.code, "fault": error.fault, "nextStep": error.next_step}
        failure.write_text(json.dumps(told | {"status": error.status}))
        raise


def _rotate(settings: Settings) -> None:
    from spinyard.wiring import rotate_token

    rotate_token(settings)


def _as_data(started: Started, home: Path) -> dict[str, object]:
    found = started.server
    return {
        "apiVersion": "spinyard.dev/v1",
        "kind": "Server",
        "home": str(home),
        "url": found.url,
        "pid": found.pid,
        "gateway": found.gateway,
        "version": found.version,
    }


def _stay(settings: Settings, started: Started) -> int:
    found = started.server
    home = "" if settings.home == default_home() else f" --home {settings.home}"
    link = KeeperLink(settings.keeper_socket, timeout_seconds=5.0)
    try:
        print(f"spinyard {found.version} is ready (pid {found.pid}), home {settings.home}")
        print(f"  gateway  http://{found.gateway}")
        print(f"  api      {found.url}  (token in {settings.token_file})")
        print(f"  next     spinyard up -f FILE{home}")
        print("  Ctrl-C leaves the server running; `spinyard down` stops it.", flush=True)
        for line in new_lines(log_of(settings.log_dir, SERVER), _Stopped(link)):
            print(line, flush=True)
    except KeyboardInterrupt:
        print(
            f"\nspinyard: detached. The server (pid {found.pid}), Envoy and all instances go on; if one of them dies,"
            f" the keeper starts it again.\n  stop:    spinyard down{home}   (with --delete also the instances)",
            file=sys.stderr,
        )
        return Exit.OK
    print("spinyard: the server was stopped")
    return Exit.OK


class _Stopped:
    """Whether somebody stopped the server on purpose; asked at each look at the log, answered anew every tenth."""

    def __init__(self, link: KeeperLink) -> None:
        self._link = link
        self._asked = 0
        self._over = False

    def __call__(self) -> bool:
        self._asked += 1
        if self._asked % 10 == 0:
            try:
                self._over = SERVER not in self._link.supervised()
            except SpinyardError:
                self._over = True
        return self._over
