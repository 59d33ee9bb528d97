"""One thread, one poll: file descriptors and times, each with what to call."""

from __future__ import annotations

import heapq
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable
from typing import Final

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
WAIT_SECONDS_MAX: Final = 86400.0
"""epoll takes milliseconds as an int, which end after 24.8 days; a grace may be longer"""


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._times: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._on_signal: dict[int, Callable[[], None]] = {}
        self.running = True
        self._signals, wake = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(self._signals, READ, lambda _mask: self._read_signals())

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        self._on_signal[number] = callback
        signal.signal(number, lambda _number, _frame: None)

    def watch(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self._selector.register(fd, mask, callback)

    def change(self, fd: int, mask: int, callback: Callable[[int], None]) -> None:
        self._selector.modify(fd, mask, callback)

    def forget(self, fd: int) -> None:
        self._selector.unregister(fd)

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._times, (time.monotonic() + seconds, self._count, callback))

    def run(self) -> None:
        while self.running:
            left = self._times[0][0] - time.monotonic() if self._times else WAIT_SECONDS_MAX
            for key, mask in self._selector.select(min(max(0.0, left), WAIT_SECONDS_MAX)):
                # An earlier callback of this round may have closed it, and the number may be somebody else's by now.
                if self._selector.get_map().get(key.fd) is key:
                    _guarded(key.data, mask)
            self._run_due(time.monotonic())

    def _run_due(self, now: float) -> None:
        while self._times and self._times[0][0] <= now:
            _, _, callback = heapq.heappop(self._times)
            _guarded(_unmasked(callback), 0)

    def _read_signals(self) -> None:
        for number in set(os.read(self._signals, 4096)):
            if number in self._on_signal:
                self._on_signal[number]()


def _unmasked(callback: Callable[[], None]) -> Callable[[int], None]:
    return lambda _mask: callback()


def _guarded(callback: Callable[[int], None], mask: int) -> None:
    """A fault in one callback must not end the parent of everything: it is written down, and the loop goes on."""
    try:
        callback(mask)
    except Exception:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
