"""Pure words and rules of both domains: no I/O, no clock, no randomness."""
