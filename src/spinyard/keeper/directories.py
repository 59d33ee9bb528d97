"""Data directories under `<home>/data`, one per key. Deleting is done by a forked helper: it may take long."""

from __future__ import annotations

import os
import stat
from typing import Any, Final

from spinyard.keeper import records, shim
from spinyard.keeper.errors import KeeperError, from_os
from spinyard.keeper.loop import READ, Loop

DEPTH_MAX: Final = 64
DELETERS_MAX: Final = 32


class Directories:
    def __init__(self, home: str, loop: Loop) -> None:
        self._root = f"{home}/data"
        self._loop = loop
        self._deleting: dict[str, int] = {}
        self._failed: dict[str, str] = {}
        os.makedirs(self._root, mode=0o700, exist_ok=True)

    def pids(self) -> set[int]:
        return set(self._deleting.values())

    def path_of(self, key: str) -> str:
        return f"{self._root}/{records.name_of(key)}"

    def make(self, key: str) -> str:
        if key in self._deleting:
            raise KeeperError("ProviderError", f"the directory {key} is being deleted", retryable=True)
        path = self.path_of(key)
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise KeeperError("ProviderError", f"{path} is there and is not a directory") from None
        except OSError as failed:
            raise from_os(failed) from failed
        return path

    def list(self, key: str = "") -> list[dict[str, Any]]:
        names = os.listdir(self._root) if not key else [records.name_of(key)]
        return [
            {"key": records.key_of(name), "path": f"{self._root}/{name}"}
            for name in names
            if os.path.lexists(f"{self._root}/{name}") and records.is_key(records.key_of(name))
        ]

    def remove(self, key: str) -> None:
        """Starts it. What went wrong the last time is raised once, after which a new attempt has been started."""
        path = self.path_of(key)
        failure = self._failed.pop(key, "")
        if key not in self._deleting and os.path.lexists(path) and len(self._deleting) < DELETERS_MAX:
            self._start(key, path)
        if failure:
            raise KeeperError("ProviderError", f"the directory {path} could not be deleted: {failure}", retryable=True)

    def _start(self, key: str, path: str) -> None:
        result, report = os.pipe()
        try:
            pid = shim.fork()
        except OSError as failed:
            os.close(result)
            os.close(report)
            raise from_os(failed) from failed
        if pid == 0:
            _delete_and_exit(self._root, records.name_of(key), report)
        os.close(report)
        self._deleting[key] = pid
        self._loop.watch(result, READ, lambda _mask: self._ended(key, result))

    def _ended(self, key: str, result: int) -> None:
        message = os.read(result, 4096).decode(errors="replace")
        self._loop.forget(result)
        os.close(result)
        self._deleting.pop(key, None)
        if message:
            self._failed[key] = message


def _delete_and_exit(root: str, name: str, report: int) -> None:
    try:
        shim.leave_the_keeper(report)
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        delete_tree(root_fd, name)
    except OSError as failed:
        os.write(report, str(failed).encode()[:4096])
    finally:
        os._exit(0)


def delete_tree(root_fd: int, name: str) -> None:
    """Every step names one entry of an open directory, so no symbolic link is followed and nothing outside is reached.
    Other file systems mounted inside are refused. What lies very deep is first moved up: depth costs no open files."""
    device = os.fstat(root_fd).st_dev
    if not stat.S_ISDIR(os.stat(name, dir_fd=root_fd, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=root_fd)
        return
    top = _open_directory(name, root_fd, device)
    moved = 0
    while True:
        before = moved
        moved = _empty(top, top, device, 0, moved)
        if moved == before:
            break
    os.close(top)
    os.rmdir(name, dir_fd=root_fd)


def _empty(fd: int, top: int, device: int, depth: int, moved: int) -> int:
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if not is_directory:
            os.unlink(name, dir_fd=fd)
        elif depth >= DEPTH_MAX:
            moved += 1
            os.rename(name, f".spinyard-moved-{os.getpid()}-{moved}", src_dir_fd=fd, dst_dir_fd=top)
        else:
            child = _open_directory(name, fd, device)
            try:
                moved = _empty(child, top, device, depth + 1, moved)
            finally:
                os.close(child)
            os.rmdir(name, dir_fd=fd)
    return moved


def _open_directory(name: str, parent: int, device: int) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=parent)
        fd = os.open(name, flags, dir_fd=parent)
    here = os.fstat(fd)
    if here.st_dev != device:
        os.close(fd)
        raise OSError(18, f"{name} is another file system mounted inside: not touched")
    if here.st_mode & 0o700 != 0o700:
        os.fchmod(fd, 0o700)
    return fd
