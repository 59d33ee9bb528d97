"""Copied reads are answered by both sides again, and the answers compared."""
