"""Protocols between the engine and the outside; their comments are the contract."""
