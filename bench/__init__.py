"""Every published number, each beside its peer in the same run (docs/bench.md)."""
