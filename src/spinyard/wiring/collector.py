"""How often Python looks for cycles of garbage."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 10, 10)
"""A pass makes hundreds of small values and no cycles: at Python's own 700 a tenth of the engine's time went there."""


def no_collector_meanwhile() -> None:
    """Before the imports: they leave next to no garbage, and looking for it took a fifth of the start."""
    gc.disable()


def calm_collector() -> None:
    """Once per process, when everything is imported: what lives as long as the process is not looked at again."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    gc.enable()
