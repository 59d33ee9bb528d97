from spinyard.store.store import SqlStore

__all__ = ["SqlStore"]
