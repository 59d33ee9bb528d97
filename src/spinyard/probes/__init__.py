"""Probes made by us: one at a time (`RealProber`), and periodically of instances that serve (`LivenessWatch`)."""

from spinyard.probes.prober import RealProber, RunCommand
from spinyard.probes.watch import LivenessWatch, Verdict, WatchKey, WatchPurpose

__all__ = ["LivenessWatch", "RealProber", "RunCommand", "Verdict", "WatchKey", "WatchPurpose"]
