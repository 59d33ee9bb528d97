"""Python's collector is off while a server loads, and on, but calm, while it serves."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc
from spinyard.wiring.collector import THRESHOLDS, calm_collector, no_collector_meanwhile
no_collector_meanwhile()
assert not gc.isenabled()
calm_collector()
assert gc.isenabled() and gc.get_threshold() == THRESHOLDS and gc.get_freeze_count() > 0
"""


def test_it_looks_again_once_everything_is_loaded() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=30)
