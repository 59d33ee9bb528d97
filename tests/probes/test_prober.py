"""Who is to blame: the instance (failed), or we (unknown). Against real servers."""

from __future__ import annotations

import asyncio
import errno
import time

import grpc
import pytest
from grpc import aio

from spinyard.clock import SystemClock
from spinyard.core.ids import ResourceKey
from spinyard.core.observed import ProbeAnswer, ProbeResult
from spinyard.core.spec import Exec, Grpc, HttpGet, Probe, TcpSocket
from spinyard.errors import ProviderFailure
from spinyard.probes import RealProber
from spinyard.probes.grpc_health import decode_response, encode_request
from spinyard.probes.prober import expand_ports
from tests.probes.servers import Answer, endless, endless_head, free_port, says, serving, silent

pytestmark = pytest.mark.anyio

KEY = ResourceKey("u/process")
OK, FAILED, UNKNOWN = ProbeAnswer.OK, ProbeAnswer.FAILED, ProbeAnswer.UNKNOWN


async def ask(probe: Probe, port: int, address: str = "127.0.0.1") -> ProbeResult:
    return await RealProber(SystemClock()).check(KEY, address, (("http", port),), probe)


def http(path: str = "/", **fields: object) -> Probe:
    return Probe(http_get=HttpGet(path, "http", **fields), timeout_seconds=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "answer"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", OK, id="200"),
        pytest.param(b"HTTP/1.0 204 No Content\r\n\r\n", OK, id="204 by HTTP/1.0"),
        pytest.param(b"HTTP/1.1 302 Found\r\nlocation: http://nowhere.invalid/\r\n\r\n", OK, id="302 is not followed"),
        pytest.param(b"HTTP/1.1 399\r\n\r\n", OK, id="399 without reason"),
        pytest.param(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", OK, id="interim answer"),
        pytest.param(b"HTTP/1.1 400 Bad\r\n\r\n", FAILED, id="400"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", FAILED, id="404"),
        pytest.param(b"HTTP/1.1 503 Busy\r\n\r\n", FAILED, id="503"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 20, FAILED, id="only interim answers"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", FAILED, id="not http"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", FAILED, id="status that is no number"),
        pytest.param(b"\xff\x00" * 100, FAILED, id="bytes"),
        pytest.param(b"", FAILED, id="closed without a word"),
    ],
)
async def test_http_is_judged_by_its_status(raw: bytes, answer: ProbeAnswer) -> None:
    async with serving(says(raw)) as port:
        result = await ask(http(), port)
    assert result.answer is answer
    assert bool(result.message) == (answer is not OK)


async def test_the_request_is_what_was_asked_for() -> None:
    seen: list[bytes] = []
    async with serving(says(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as port:
        result = await ask(http("/a?b=c", host="shop.local", headers=(("X-Probe", "1"), ("user-agent", "me"))), port)
        await ask(http(), port)
    assert result.answer is OK
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=c HTTP/1.1"
    assert set(lines[1:]) == {
        "Host: shop.local",
        "user-agent: me",
        "Accept: */*",
        "X-Probe: 1",
        "Connection: close",
        "",
    }
    assert f"Host: 127.0.0.1:{port}\r\n".encode() in seen[1]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(silent, FAILED, id="silence"),
        pytest.param(endless, OK, id="endless body"),
        pytest.param(endless_head, FAILED, id="endless line"),
    ],
)
async def test_an_answer_without_end_takes_bounded_time(answer: Answer, expected: ProbeAnswer) -> None:
    began = time.monotonic()
    async with serving(answer) as port:
        result = await ask(http(), port)
    assert result.answer is expected
    assert time.monotonic() - began < 1.5


async def test_nobody_listening_is_the_instance_failing() -> None:
    port = free_port()
    for probe in (http(), Probe(tcp_socket=TcpSocket("http")), Probe(grpc=Grpc("http"))):
        result = await ask(probe, port)
        assert result.answer is FAILED, result


async def test_tcp_is_ok_when_it_connects() -> None:
    async with serving(silent) as port:
        assert await ask(Probe(tcp_socket=TcpSocket("http")), port) == ProbeResult(OK)
        assert await ask(Probe(tcp_socket=TcpSocket()), port) == ProbeResult(OK)


async def test_a_port_that_nobody_has_is_ours() -> None:
    result = await ask(Probe(tcp_socket=TcpSocket("other")), 1)
    assert result.answer is UNKNOWN
    assert '"other"' in result.message
    assert (await RealProber(SystemClock()).check(KEY, "127.0.0.1", (), http())).answer is UNKNOWN
    assert (await ask(Probe(), 1)).answer is UNKNOWN


async def test_a_name_that_cannot_be_resolved_is_ours() -> None:
    assert (await ask(http(), 80, "nowhere.invalid")).answer is UNKNOWN


async def test_having_no_more_descriptors_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio, "open_connection", refused)
    assert (await ask(http(), 80)).answer is UNKNOWN


class LateClock(SystemClock):
    """As if the loop had stood still: each look is ten seconds later."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return 10.0 * self.looks


async def test_silence_while_we_stood_still_is_ours() -> None:
    async with serving(silent) as port:
        result = await RealProber(LateClock()).check(
            KEY, "127.0.0.1", (("http", port),), Probe(http_get=HttpGet(), timeout_seconds=0.05)
        )
    assert result.answer is UNKNOWN


# -- gRPC ------------------------------------------------------------------------------------------------------------


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1 by hand: `statuses` by service; anything else is NOT_FOUND."""

    def __init__(self, statuses: dict[str, int]) -> None:
        self.statuses = statuses

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method != "/grpc.health.v1.Health/Check":
            return None
        return grpc.unary_unary_rpc_method_handler(self.check)

    async def check(self, request: bytes, context: aio.ServicerContext[bytes, bytes]) -> bytes:
        service = request[2:].decode()
        if service == "slow":
            await asyncio.sleep(5)
        if service not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        status = self.statuses[service]
        return bytes([8, status]) if status else b""


@pytest.mark.parametrize(
    ("service", "answer", "words"),
    [
        ("", OK, ""),
        ("good", OK, ""),
        ("bad", FAILED, "NOT_SERVING"),
        ("unset", FAILED, "UNKNOWN"),
        ("missing", FAILED, "NOT_FOUND"),
        ("slow", FAILED, "no answer within"),
    ],
)
async def test_grpc_health_is_asked(service: str, answer: ProbeAnswer, words: str) -> None:
    server = aio.server()
    server.add_generic_rpc_handlers((Health({"": 1, "good": 1, "bad": 2, "unset": 0}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        result = await ask(Probe(grpc=Grpc("http", service), timeout_seconds=1.0), port)
    finally:
        await server.stop(None)
    assert result.answer is answer, result
    assert words in result.message


async def test_a_server_without_health_or_without_grpc_has_failed() -> None:
    server = aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        result = await ask(Probe(grpc=Grpc("http")), port)
    finally:
        await server.stop(None)
    assert result.answer is FAILED
    assert "UNIMPLEMENTED" in result.message
    async with serving(says(b"HTTP/1.1 200 OK\r\n\r\n")) as port:
        assert (await ask(Probe(grpc=Grpc("http")), port)).answer is FAILED


async def test_a_failed_grpc_probe_does_not_spoil_the_next() -> None:
    port = free_port()
    probe = Probe(grpc=Grpc("http"), timeout_seconds=2.0)
    assert (await ask(probe, port)).answer is FAILED
    server = aio.server()
    server.add_generic_rpc_handlers((Health({"": 1}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        assert (await ask(probe, port)).answer is OK
    finally:
        await server.stop(None)


def test_the_messages_of_grpc_health() -> None:
    assert encode_request("") == b""
    assert encode_request("a" * 200) == b"\x0a\xc8\x01" + b"a" * 200
    assert decode_response(b"") == 0
    assert decode_response(b"\x08\x01") == 1
    assert decode_response(b"\x12\x02ab\x08\x01") == 1, "fields that are not known are passed over"
    for broken in (b"\x08", b"\x12\x05a", b"\x0b", b"\xff" * 20):
        assert decode_response(broken) is None


# -- exec ------------------------------------------------------------------------------------------------------------


async def run(code: int | Exception | None, output: str = "", command: tuple[str, ...] = ("check",)) -> ProbeResult:
    async def runner(key: ResourceKey, words: tuple[str, ...], seconds: float, size: int) -> tuple[int | None, str]:
        assert (key, seconds, size) == (KEY, 0.2, 4096)
        assert words == tuple(word.replace("${PORT_HTTP}", "81") for word in command)
        if isinstance(code, Exception):
            raise code
        if code == 99:
            await asyncio.sleep(30)
        return code, output

    prober = RealProber(SystemClock(), runner)
    return await prober.check(KEY, "127.0.0.1", (("http", 81),), Probe(exec=Exec(command), timeout_seconds=0.2))


async def test_a_command_is_judged_by_its_exit_code() -> None:
    assert await run(0, "fine") == ProbeResult(OK)
    result = await run(3, "x\n" * 500 + "no database\n")
    assert result.answer is FAILED
    assert result.message.startswith("check: exit code 3: ")
    assert result.message.endswith("x\nno database"), "the end of the output says most"
    assert len(result.message) == 300
    killed = await run(None, command=("check", "${PORT_HTTP}"))
    assert killed.answer is FAILED
    assert "killed" in killed.message


async def test_a_command_that_could_not_be_run_is_ours() -> None:
    assert (await run(ProviderFailure("no keeper"))).answer is UNKNOWN
    assert (await run(ConnectionResetError())).answer is UNKNOWN
    began = time.monotonic()
    assert (await run(99)).answer is UNKNOWN
    assert time.monotonic() - began < 1.7
    alone = RealProber(SystemClock())
    assert (await alone.check(KEY, "127.0.0.1", (), Probe(exec=Exec(("a",))))).answer is UNKNOWN


def test_ports_are_expanded_and_nothing_else() -> None:
    ports = (("http", 80), ("db-a", 5000))
    assert (
        expand_ports("${PORT} ${PORT_HTTP} ${PORT_DB_A} ${PORT_X} ${HOME} $PORT", ports)
        == "80 80 5000 ${PORT_X} ${HOME} $PORT"
    )
    assert expand_ports("${PORT}", ()) == "${PORT}"


async def test_too_many_at_once_wait_for_a_slot_but_not_for_ever() -> None:
    prober = RealProber(SystemClock(), in_flight_max=1)
    async with serving(silent) as port:
        slow = asyncio.create_task(
            prober.check(KEY, "127.0.0.1", (("http", port),), Probe(http_get=HttpGet(), timeout_seconds=3.0))
        )
        await asyncio.sleep(0)
        result = await prober.check(KEY, "127.0.0.1", (("http", port),), Probe(tcp_socket=TcpSocket()))
        slow.cancel()
    assert result.answer is UNKNOWN
    assert "at once" in result.message
