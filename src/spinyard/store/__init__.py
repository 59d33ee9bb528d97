from spinyard.store.restore import restore
from spinyard.store.store import SqlStore

__all__ = ["SqlStore", "restore"]
