"""Everything the environment may say, read once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    version: str = "1"
    instance: str = ""
    fail_rate: float = 0.0
    delay_seconds: float = 0.0
    warmup_seconds: float = 0.0
    grace_seconds: float = 8.0
    body_bytes_max: int = 8 * 1024 * 1024
    photos_max: int = 20_000
    threads_max: int = 4


def read_settings(env: Mapping[str, str] = os.environ) -> Settings:
    """Raises SystemExit with one clear sentence per wrong variable."""
    if not env.get("GALLERY_DATA"):
        raise SystemExit("gallery: GALLERY_DATA must name the directory that all instances share")
    fail_rate = number(env, "GALLERY_FAIL_RATE", 0.0)
    if not 0.0 <= fail_rate <= 1.0:
        raise SystemExit(f"gallery: GALLERY_FAIL_RATE must lie between 0 and 1, it is {fail_rate}")
    return Settings(
        data=Path(env["GALLERY_DATA"]).absolute(),
        host=env.get("HOST", "127.0.0.1"),
        port=int(number(env, "PORT", 8000)),
        version=env.get("GALLERY_VERSION", "1"),
        instance=env.get("SPINYARD_SPIN") or str(os.getpid()),
        fail_rate=fail_rate,
        delay_seconds=number(env, "GALLERY_DELAY_MS", 0.0) / 1000,
        warmup_seconds=number(env, "GALLERY_WARMUP_MS", 0.0) / 1000,
        grace_seconds=number(env, "GALLERY_GRACE_SECONDS", 8.0),
        body_bytes_max=int(number(env, "GALLERY_BODY_BYTES_MAX", 8 * 1024 * 1024)),
        photos_max=int(number(env, "GALLERY_PHOTOS_MAX", 20_000)),
        threads_max=max(1, int(number(env, "GALLERY_THREADS", 4))),
    )


def number(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        raise SystemExit(f"gallery: {name} must be a number, it is {text!r}") from None
    if not 0 <= value < float("inf"):
        raise SystemExit(f"gallery: {name} must be 0 or more, it is {text!r}")
    return value
