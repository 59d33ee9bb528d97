"""grpc.health.v1.Health/Check, its two messages written and read by hand (doc/health-checking.md of grpc/grpc).

HealthCheckRequest  { string service = 1 }
HealthCheckResponse { ServingStatus status = 1 }    UNKNOWN 0, SERVING 1, NOT_SERVING 2, SERVICE_UNKNOWN 3
"""

from __future__ import annotations

import ipaddress

from spinyard.core.observed import ProbeAnswer, ProbeResult

_METHOD = "/grpc.health.v1.Health/Check"
_STATUS = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    # A shared subchannel would keep its backoff from one probe to the next, and show us the past.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 1024),
)


async def check_grpc(service: str, address: str, port: int, timeout_seconds: float) -> ProbeResult:
    """Ok is SERVING. Raises TimeoutError."""
    import grpc  # here, because it takes long to import and few need it
    from grpc import aio

    async with aio.insecure_channel(_target(address, port), options=_OPTIONS) as channel:
        call = channel.unary_unary(_METHOD, request_serializer=bytes, response_deserializer=bytes)
        try:
            answer = await call(encode_request(service), timeout=timeout_seconds)
        except aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            return ProbeResult(ProbeAnswer.FAILED, f"{error.code().name}: {error.details()}"[:300])
    status = decode_response(answer)
    if status == 1:
        return ProbeResult(ProbeAnswer.OK)
    named = _STATUS.get(status, str(status)) if status is not None else "no HealthCheckResponse"
    return ProbeResult(ProbeAnswer.FAILED, f'health of service "{service}": {named}')


def _target(address: str, port: int) -> str:
    try:
        version = ipaddress.ip_address(address).version
    except ValueError:
        return f"dns:///{address}:{port}"
    return f"ipv4:{address}:{port}" if version == 4 else f"ipv6:[{address}]:{port}"


def encode_request(service: str) -> bytes:
    if not service:
        return b""
    text = service.encode()
    return b"\x0a" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode_response(message: bytes) -> int | None:
    """The status, 0 when it is not in the message (proto3's default); None: not such a message."""
    status, at = 0, 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        match tag & 7:
            case 0:
                value, at = _read_varint(message, at)
                if tag >> 3 == 1:
                    status = value
            case 1:
                at += 8
            case 2:
                length, at = _read_varint(message, at)
                at += length
            case 5:
                at += 4
            case _:
                return None
        if at > len(message):
            return None
    return status


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Beyond the end when it is cut off, so that the caller sees it."""
    number = 0
    for index in range(10):
        if at + index >= len(message):
            return 0, len(message) + 1
        number |= (message[at + index] & 0x7F) << (7 * index)
        if message[at + index] < 0x80:
            return number, at + index + 1
    return 0, len(message) + 1
