"""Facts of the machine a run was made on: without them its absolute figures say nothing."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any


def facts() -> dict[str, Any]:
    memory = next((line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")), "")
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "cpu": models[0].split(":", 1)[1].strip() if models else platform.machine(),
        "memory_mb": int(memory.split()[1]) // 1024 if memory else 0,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "load_before": [round(value, 2) for value in os.getloadavg()],
        "fsync_ms": fsync_ms(),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def fsync_ms() -> float:
    """Median of 20 appends of 4 KiB with fsync where the benches keep their stores."""
    import tempfile

    taken = []
    with tempfile.TemporaryFile(dir=os.environ.get("SPINYARD_BENCH_DIR")) as file:
        for _ in range(20):
            began = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append((time.perf_counter() - began) * 1000)
    return round(sorted(taken)[10], 3)


def commit(root: Path) -> str:
    """`+` after it: the tree that was measured differs from it."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=False)
    measured = ("src", "sdk", "bench", ":!bench/results")
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", *measured], cwd=root, check=False).returncode
    return f"{done.stdout.strip()}{'+' if changed else ''}" if done.stdout else "unknown"
