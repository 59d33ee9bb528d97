"""`<home>/settings.json`: what a server of this home was started with, so that the keeper's restarts do the same."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from spinyard.cli.exits import Usage
from spinyard.errors import StoreFailure
from spinyard.settings import Settings

KEPT = ("gateway", "api", "database_url", "gateway_tls_certificate", "gateway_tls_key", "port_range")


def settings_path(home: Path) -> Path:
    return home / "settings.json"


def load_settings(home: Path) -> Settings:
    """Defaults for a home without the file. Any field of Settings may stand in it; unknown ones are an error."""
    path = settings_path(home)
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Settings(home)
    except NotADirectoryError as cause:
        raise home_not_writable(home, cause) from cause
    except (OSError, ValueError) as cause:
        raise Usage(f"{path} cannot be read: {cause}", next_step="mend it, or remove it for the defaults") from cause
    known = {field.name for field in fields(Settings)} - {"home"}
    if not isinstance(data, dict) or set(data) - known:
        unknown = ", ".join(sorted(set(data) - known)) if isinstance(data, dict) else "not an object"
        raise Usage(f"{path}: unknown settings: {unknown}", next_step=f"known are {', '.join(sorted(known))}")
    values: dict[str, Any] = {**data}
    if "port_range" in values:
        values["port_range"] = tuple(values["port_range"])
    return Settings(home, **values)


@contextmanager
def kept_settings(settings: Settings) -> Iterator[None]:
    """Written for the start inside; when that fails, the file is as it was: a wrong option must not stay."""
    path = settings_path(settings.home)
    before = path.read_bytes() if path.exists() else None
    save_settings(settings)
    try:
        yield
    except BaseException:
        if before is None:
            path.unlink(missing_ok=True)
        else:
            path.write_bytes(before)
        raise


def save_settings(settings: Settings) -> None:
    """What is in the file beside the kept fields stays. Written beside and renamed: never half a file."""
    path = settings_path(settings.home)
    before = json.loads(path.read_bytes()) if path.exists() else {}
    data = before | {name: getattr(settings, name) for name in KEPT}
    fresh = path.with_suffix(".json.new")
    try:
        with open(fresh, "w") as file:
            json.dump(data, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as cause:
        raise home_not_writable(settings.home, cause) from cause


def with_options(
    settings: Settings, *, gateway: str = "", api: str = "", certificate: str = "", key: str = "", port_range: str = ""
) -> Settings:
    """Empty options leave what is kept. Raises Usage for what cannot be right."""
    if bool(certificate) != bool(key):
        raise Usage("--tls-cert and --tls-key belong together")
    for path in (certificate, key):
        if path and not os.access(path, os.R_OK):
            raise Usage(f"cannot read {path}")
    changes: dict[str, Any] = {}
    if gateway:
        changes["gateway"] = _address("--gateway", gateway)
        if changes["gateway"].endswith(":0"):
            raise Usage(
                f"--gateway {gateway!r}: users need a port that is known", next_step="for example 127.0.0.1:8080"
            )
    if api:
        changes["api"] = _address("--api", api)
    if certificate:
        changes["gateway_tls_certificate"] = os.path.abspath(certificate)
        changes["gateway_tls_key"] = os.path.abspath(key)
    if port_range:
        changes["port_range"] = _port_range(port_range)
    return replace(settings, **changes)


def make_home(home: Path) -> None:
    """0700, with its run and logs directories. Raises StoreFailure(home_not_writable)."""
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for inside in ("run", "logs"):
            (home / inside).mkdir(mode=0o700, exist_ok=True)
        if home.stat().st_uid == os.geteuid() and home.stat().st_mode & 0o077:
            home.chmod(0o700)
        probe = home / "run" / f".writable-{os.getpid()}"
        try:
            probe.write_bytes(b"x")  # a full disk still takes an empty file
        finally:
            probe.unlink(missing_ok=True)
    except OSError as cause:
        raise home_not_writable(home, cause) from cause


def home_not_writable(home: Path, cause: OSError) -> StoreFailure:
    error = StoreFailure(
        f"cannot write to the home {home}: {cause.strerror} ({cause.filename})",
        code="disk_full" if cause.errno in (28, 122) else "home_not_writable",
        next_step="make room there, or give another --home"
        if cause.errno in (28, 122)
        else "give a --home you may write to",
    )
    error.fault = "user"
    return error


def _address(option: str, text: str) -> str:
    """`:8080` and `8080` mean loopback, never every interface."""
    host, _, port = text.rpartition(":")
    host = host or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise Usage(f"{option} {text!r} is not HOST:PORT", next_step="for example 127.0.0.1:8080")
    return f"{host}:{int(port)}"


def _port_range(text: str) -> tuple[int, int]:
    low, dash, high = text.partition("-")
    if not dash or not low.isdigit() or not high.isdigit() or not 1024 <= int(low) <= int(high) <= 65535:
        raise Usage(f"--port-range {text!r} is not LOW-HIGH within 1024-65535", next_step="for example 20000-29999")
    return int(low), int(high)
