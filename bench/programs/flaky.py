"""`tiny` of which FAIL_PERCENT of the answers are a 500; where SWITCH names a file, only as long as there is one. Each
request is written to LOG as it arrives."""

import asyncio
import os
import random
import socket
import time


def is_on() -> bool:
    return "SWITCH" not in os.environ or os.path.exists(os.environ["SWITCH"])


async def main() -> None:
    share = float(os.environ.get("FAIL_PERCENT", "0")) / 100
    log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND) if "LOG" in os.environ else None

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                is_asked = not head.startswith(b"GET /healthz")
                is_bad = is_asked and random.random() < share and is_on()
                status = b"500 Failed" if is_bad else b"200 OK"
                if is_asked and log is not None:
                    os.write(log, f"{time.time():.6f} {status.split()[0].decode()}\n".encode())
                writer.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 3\r\ncontent-type: text/plain\r\n\r\nok\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"]), backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
