"""Words with a grammar of their own: durations, quantities, names, hosts. Pure; each parser says what it expected."""

from __future__ import annotations

import ipaddress
import math
import re
from datetime import UTC, datetime
from decimal import Decimal

from cronsim import CronSim, CronSimError

DURATION_MAX = 10 * 366 * 86400.0

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)([A-Za-z]*)", re.ASCII)
_BYTES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12} | {
    unit: 1 << shift for unit, shift in (("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40))
}
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LABEL_PART = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?Z", re.ASCII)


class Bad(ValueError):
    """A value that is not what its field means. Carries what a Problem needs."""

    def __init__(self, code: str, message: str, expected: str = "", suggestion: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.expected = expected
        self.suggestion = suggestion


def shown(value: object) -> str:
    """`the number 8080`, `the text "yes"`, `a list`."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return f"the boolean {str(value).lower()}"
        case int() | float():
            return f"the number {value!r}"[:80]
        case str():
            return f'the text "{value[:60]}"'
        case list() | tuple():
            return "a list"
        case _:
            return "a mapping"


# -- durations -------------------------------------------------------------------------------------------------------


def duration(value: object) -> float:
    """Seconds, from a number or from text such as "90s", "5m", "1h30m", "250ms"."""
    expected = 'a number of seconds, or text such as "90s", "5m" or "2h"'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Bad("wrong_type", f"got {shown(value)}", expected)
    if isinstance(value, str):
        if not _DURATION.fullmatch(value):
            suggestion = f"write {value}, or {value}s" if value.isdigit() else ""
            raise Bad("invalid_duration", f"{shown(value)} is not a duration", expected, suggestion)
        seconds = math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    else:
        seconds = float(value) if abs(value) <= DURATION_MAX else math.inf
    if not 0 <= seconds <= DURATION_MAX:
        raise Bad("out_of_range", f"{value!r:.40} is out of range", "a duration of 0 to 10 years")
    return seconds


def plain_number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def timestamp(text: object) -> float:
    """Seconds since the epoch, from RFC 3339 text in UTC with up to nine digits of a second."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    expected = 'a time in UTC such as "2026-01-31T12:00:00Z"'
    if found is None:
        raise Bad("invalid_time", f"{shown(text)} is not a time", expected)
    try:
        whole = datetime.fromisoformat(found[1]).replace(tzinfo=UTC).timestamp()
    except ValueError as error:
        raise Bad("invalid_time", f"{shown(text)} is not a time: {error}", expected) from error
    return float(Decimal(int(whole)) + Decimal(found[2] or 0))


def timestamp_text(seconds: float) -> str:
    """Nine digits, because they name exactly one float of our times; fewer would change it on the way back."""
    exact = Decimal(seconds).quantize(Decimal("0.000000001"))
    whole = int(exact)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f"{exact - whole:.9f}"[1:].rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


# -- quantities ------------------------------------------------------------------------------------------------------


def byte_count(value: object) -> int:
    """Bytes, from a whole number or a Kubernetes quantity such as "256Mi"."""
    expected = 'a number of bytes, or text such as "256Mi" or "1G"'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Bad("wrong_type", f"got {shown(value)}", expected)
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None or found[2] not in _BYTES:
            raise Bad("invalid_quantity", f"{shown(value)} is not an amount of bytes", expected, _unit_hint(found))
        amount = Decimal(found[1]) * _BYTES[found[2]]
        if amount != int(amount):
            raise Bad("invalid_quantity", f"{shown(value)} is not a whole number of bytes", expected)
        value = int(amount)
    if not 1 <= value < 1 << 60:
        raise Bad("out_of_range", f"{value} bytes is out of range", "1 byte to 1 EiB")
    return value


def _unit_hint(found: re.Match[str] | None) -> str:
    if found is None:
        return ""
    first = found[2][:1].upper()
    return f'did you mean "{found[1]}{first}i"?' if first in "KMGT" else ""


def bytes_text(amount: int) -> str | int:
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if amount % _BYTES[unit] == 0:
            return f"{amount // _BYTES[unit]}{unit}"
    return amount


def cores(value: object) -> float:
    """CPU cores, from a number or from text such as "500m" or "2"."""
    expected = 'a number of cores such as 0.5, or text such as "500m"'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise Bad("wrong_type", f"got {shown(value)}", expected)
    if isinstance(value, str):
        found = _QUANTITY.fullmatch(value)
        if found is None or found[2] not in ("", "m"):
            raise Bad("invalid_quantity", f"{shown(value)} is not an amount of CPU", expected)
        value = float(found[1]) / (1000.0 if found[2] else 1.0)
    if not 0.001 <= value <= 4096:
        raise Bad("out_of_range", f"{value!r:.40} cores is out of range", "0.001 to 4096 cores")
    return float(value)


def cores_text(amount: float) -> str | int | float:
    milli = round(amount * 1000)
    return f"{milli}m" if milli / 1000.0 == amount and not amount.is_integer() else plain_number(amount)


def share(value: object) -> int | str:
    """A count of instances, or a percentage of the replicas."""
    expected = 'a whole number, or a percentage such as "25%"'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise Bad("wrong_type", f"got {shown(value)}", expected)
    if isinstance(value, str):
        number = value.removesuffix("%")
        if not (
            value.endswith("%") and number.isdecimal() and number.isascii() and len(number) <= 3 and int(number) <= 100
        ):
            raise Bad("invalid_share", f"{shown(value)} is neither a count nor a percentage", expected)
        return value
    if not 0 <= value <= 10_000:
        raise Bad("out_of_range", f"{value} is out of range", "0 to 10000")
    return value


def percent(value: object) -> float:
    """0.01 to 100, of which a weight knows two decimals."""
    expected = "a number from 0.01 to 100, of at most two decimals"
    if isinstance(value, bool) or not isinstance(value, int | float):
        number = value.removesuffix("%").strip() if isinstance(value, str) else ""
        hint = f"write {number[:20]}, without quotes" if re.fullmatch(r"\d+(\.\d+)?", number, re.ASCII) else ""
        raise Bad("wrong_type", f"got {shown(value)}", expected, hint)
    if not 0.01 <= value <= 100:
        raise Bad("out_of_range", f"{value!r:.40} is out of range", expected)
    if round(value, 2) != value:
        raise Bad("out_of_range", f"{value!r:.40} has more than two decimals", expected, f"write {value:.2f}")
    return float(value)


def pause(value: object) -> float | bool:
    """Seconds, or True: until a person says so."""
    if value is True or value is False:
        return value or 0.0
    expected = 'a duration such as "30s", or true: until it is promoted'
    if isinstance(value, dict):
        given = value.get("duration")
        hint = f"write pause: {str(given)[:20]}" if isinstance(given, str | int | float) else "write pause: true"
        raise Bad("wrong_type", f"got {shown(value)}", expected, hint)
    try:
        return duration(value)
    except Bad as bad:
        raise Bad(bad.code, bad.message, expected, bad.suggestion) from bad


# -- names -----------------------------------------------------------------------------------------------------------


def dns_label(value: str) -> str:
    if not _LABEL.fullmatch(value):
        raise Bad(
            "invalid_name",
            f"{shown(value)} is not a valid name",
            "1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit",
            _label_hint(value),
        )
    return value


def _label_hint(value: str) -> str:
    near = re.sub(r"[^a-z0-9-]+", "-", value.lower()).strip("-")[:63].strip("-")
    return f'"{near}" would do' if near else ""


def port_name(value: str) -> str:
    dns_label(value)
    if value.isdigit():
        raise Bad(
            "invalid_name",
            f"{shown(value)} is not a valid port name",
            "at least one letter",
            f'"port-{value}" would do',
        )
    return value


def port_reference(value: object) -> object:
    """The name of a port, or its number, as Kubernetes allows both."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value


def variable_name(value: str) -> str:
    if not _VARIABLE.fullmatch(value):
        near = re.sub(r"[^A-Za-z0-9_]+", "_", value).lstrip("0123456789")
        raise Bad(
            "invalid_variable",
            f"{shown(value)} is not the name of an environment variable",
            "letters, digits and _, not beginning with a digit",
            f'"{near}" would do' if near.strip("_") else "",
        )
    return value


def label_key(value: str) -> str:
    prefix, slash, name = value.rpartition("/")
    if not _LABEL_PART.fullmatch(name) or (slash and not is_host_name(prefix)):
        raise Bad("invalid_label", f"{shown(value)} is not a valid key", 'a name such as "app", or "example.com/app"')
    return value


def label_value(value: str) -> str:
    if value and not _LABEL_PART.fullmatch(value):
        raise Bad(
            "invalid_label", f"{shown(value)} is not a valid label", "at most 63 letters, digits, '-', '_' and '.'"
        )
    return value


def is_host_name(value: str) -> bool:
    return len(value) <= 253 and all(_LABEL.fullmatch(part.lower()) for part in value.split("."))


def is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


def route_host(value: str) -> str:
    """A host name, `*` for any, or `*.` before a host name. Lower case, because hosts have no case."""
    bare = value.removeprefix("*.")
    if value == "*" or is_host_name(bare) or is_address(bare):
        return value.lower()
    suggestion = ""
    if "://" in value or "/" in value:
        suggestion = "leave out the scheme and the path"
    elif ":" in value:
        suggestion = "leave out the port: the gateway has one port for all routes"
    raise Bad("invalid_host", f"{shown(value)} is not a host name", 'a host name, "*.example.com", or "*"', suggestion)


def endpoint_address(value: str) -> str:
    if not (is_address(value) or is_host_name(value)):
        raise Bad(
            "invalid_address", f"{shown(value)} is not an address", "an IP address or a host name, without a port"
        )
    return value


def url_path(value: str) -> str:
    if not value.startswith("/"):
        raise Bad(
            "invalid_path",
            f"{shown(value)} does not begin with /",
            'a path such as "/healthz"',
            f'write "/{value[:60]}"',
        )
    if any(letter <= " " or letter == "\x7f" or letter == "#" for letter in value):
        raise Bad("invalid_path", f"{shown(value)} has a blank, a control character or #", 'a path such as "/healthz"')
    return value


def no_nul(value: str) -> str:
    if "\0" in value:
        raise Bad("invalid_text", "the text has a NUL character, which no program can be given", "text without NUL")
    return value


def probe_host(value: str) -> str:
    """What a Host header may say, with or without a port. Envoy refuses the whole cluster for anything else."""
    if not re.fullmatch(r"[\x21-\x7e]*", value):
        raise Bad("invalid_host", f"{shown(value)} is not a Host header", "a host name such as web.localhost")
    return value


def header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise Bad("invalid_header", f"{shown(value)} is not the name of a header", 'a name such as "X-Probe"')
    return value


def cookie_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value):
        raise Bad("invalid_header", f"{shown(value)} is not the name of a cookie", 'a name such as "session"')
    return value


def header_value(value: str) -> str:
    if any((letter < " " and letter != "\t") or letter == "\x7f" for letter in value):
        raise Bad("invalid_header", "the header's value has a control character", "printable text on one line")
    return value


def host_name(value: str) -> str:
    if value.startswith("*."):
        raise Bad("invalid_host", f"{shown(value)} has a star", "a host name", f"write {value[2:]}")
    if not is_host_name(value) or is_address(value):
        raise Bad("invalid_host", f"{shown(value)} is not a host name", 'a host name such as "box.localhost"')
    return value.lower()


def file_name(value: str) -> str:
    """One path element, which is no name of ours."""
    if value == "claim.json":
        raise Bad("invalid_name", "claim.json is written by Spinyard", "another name")
    if not _FILE_NAME.fullmatch(value):
        expected = "1 to 128 letters, digits, dots, dashes and underscores, not beginning with a dot"
        raise Bad("invalid_name", f"{shown(value)} is not the name of a file", expected)
    return value


def cron(value: str) -> str:
    """Five fields that fire some day. The days looked at are those of one four-year round from a fixed one, so that
    the same text is always judged the same."""
    expected = 'five fields (minute, hour, day, month, weekday; UTC), such as "0 8 * * 1-5"'
    if len(value.split()) != 5:
        raise Bad("invalid_cron", f"{shown(value)} does not have five fields", expected)
    try:
        first = next(CronSim(value, datetime(2024, 1, 1, tzinfo=UTC)), None)
    except CronSimError as error:
        why = f"{shown(value)} is no time that ever comes ({str(error).lower()})"
        raise Bad("invalid_cron", why, expected) from error
    if first is None:
        raise Bad("invalid_cron", f"{shown(value)} never fires", expected, "is there such a day?")
    return value
