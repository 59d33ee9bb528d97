"""A provider without anything behind it: deterministic, shipped, with the faults that real ones have.

For simulations, for benchmarks of the engine alone, and for trying a file (`provider: fake`) without starting anything.
"""
