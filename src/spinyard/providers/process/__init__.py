"""Processes and data directories on this machine, through the keeper."""
