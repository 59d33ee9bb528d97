"""A web server that starts in some 20 ms and is as bad as it is told to be. Standard library, run with `python -I -S`.

Every answer carries x-gallery-instance, -version, and -not-ready when it came while readiness said no: what the load
generator counts.
"""

import os
import signal
import socket
import sys
import threading
import time

STARTED = time.monotonic()


def option(name: str, default: float = 0.0) -> float:
    """--name VALUE as a number, --name alone as 1."""
    flag = f"--{name}"
    if flag not in sys.argv:
        return default
    rest = sys.argv[sys.argv.index(flag) + 1 :]
    return float(rest[0]) if rest and not rest[0].startswith("--") else 1.0


def is_ready() -> bool:
    age = time.monotonic() - STARTED
    if option("never-ready") or age < option("ready-after"):
        return False
    if os.path.exists(os.environ.get("NOT_READY_FILE", "/nonexistent")):
        return False
    period = option("flap")
    return not period or int(age / period) % 2 == 0


def is_live() -> bool:
    sick = os.environ.get("SICK_FILE", "")
    return not (sick and os.path.exists(sick) and open(sick).read().strip() in ("", os.environ.get("PORT")))


def write_down_the_claim() -> None:
    """Who this is, the file `note` of the claim, and its claim.json: one line of $GIVEN each time."""
    line = os.environ["SPINYARD_SPIN"]
    for name in ("note", "claim.json"):
        with open(os.path.join(os.environ["SPINYARD_CLAIM_DIR"], name)) as file:
            line += f" {file.read()}"
    with open(os.environ["GIVEN"], "a") as file:
        file.write(line + "\n")


class Server:
    def __init__(self) -> None:
        self.busy = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()

    def serve(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", int(os.environ["PORT"])))
        listener.listen(128)
        while True:
            peer, _ = listener.accept()
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    def talk(self, peer: socket.socket) -> None:
        kept = b""
        with peer:
            while True:
                while b"\r\n\r\n" not in kept:
                    data = peer.recv(65536)
                    if not data:
                        return
                    kept += data
                head, _, kept = kept.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
                length = int(headers.get("content-length", 0))
                while len(kept) < length:
                    kept += peer.recv(65536)
                kept = kept[length:]
                with self.lock:
                    self.busy += 1
                try:
                    self.answer(peer, lines[0].split(" ")[1])
                finally:
                    with self.lock:
                        self.busy -= 1

    def answer(self, peer: socket.socket, target: str) -> None:
        path, _, query = target.partition("?")
        status, body = "200 OK", b"ok\n"
        if path == "/ready":
            status = status if is_ready() else "503 Service Unavailable"
        elif path == "/live":
            status = status if is_live() else "500 Internal Server Error"
        elif path == "/slow":
            time.sleep(float(query) / 1000)
        elif path == "/pid":
            body = str(os.getpid()).encode()
        elif path == "/claimed":
            write_down_the_claim()
        elif path == "/events":
            return self.events(peer, int(query))
        elif path == "/missing":
            status = "404 Not Found"
        late = "" if is_ready() else "x-gallery-not-ready: 1\r\n"
        head = (
            f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nx-gallery-instance: {os.getpid()}\r\n"
            f"x-gallery-version: {os.environ.get('VERSION', '')}\r\n{late}\r\n"
        )
        peer.sendall(head.encode() + body)

    def events(self, peer: socket.socket, count: int) -> None:
        """Server-sent events, ten a second, then the end."""
        peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(count):
            line = f"data: {number}\n\n".encode()
            peer.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(0.1)
        peer.sendall(b"0\r\n\r\n")

    def finish(self) -> None:
        deadline = time.monotonic() + 30
        while self.busy and time.monotonic() < deadline:
            time.sleep(0.005)
        os._exit(0)


def daemonise() -> None:
    """A grandchild in a session of its own that nobody waits for, with the environment it inherited."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
    os._exit(0)


def end() -> None:
    time.sleep(option("after"))
    print("the last words of the program", flush=True)
    os._exit(int(option("exit")))


EATEN: list[bytearray] = []
"""kept: a moment of much memory, between two samples, is what the limit does not see"""


def misbehave() -> None:
    if option("daemonise"):
        daemonise()
        if option("daemonise") == 2:
            os._exit(0)
    if option("fill-log"):
        line = b"x" * 1023 + b"\n"
        for _ in range(int(option("fill-log") / 1024)):
            os.write(1, line)
    while len(EATEN) < option("eat"):
        EATEN.append(bytearray(1 << 20))
        for place in range(0, 1 << 20, 4096):
            EATEN[-1][place] = 1
    if "--exit" in sys.argv:
        threading.Thread(target=end, daemon=True).start()


def main() -> None:
    server = Server()
    if option("ignore-term"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.finish).start())
    misbehave()
    server.serve()


main()
