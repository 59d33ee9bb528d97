"""Providers of external things, one folder each. They do not know each other, nor any domain."""
