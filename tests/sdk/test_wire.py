"""The side of a key is the same for Envoy, the flag and the SDK. The digests below are published XXH64 values."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinyard_sdk import wire

header_values = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=200)


@pytest.mark.parametrize(
    ("key", "digest"),
    [pytest.param("a", 0xD24EC4F1A98C6E5B, id="one byte"), pytest.param("abc", 0x44BC2CF5AD770999, id="three bytes")],
)
def test_the_hash_is_xxh64_with_seed_zero(key: str, digest: int) -> None:
    assert wire.slot(key) == digest % 10_000


@pytest.mark.parametrize(
    ("weight", "side"),
    [pytest.param(0, wire.PARENT, id="nobody at 0"), pytest.param(10_000, wire.UNIT, id="everybody at the total")],
)
@given(key=header_values)
def test_the_ends_of_the_scale_leave_no_doubt(key: str, weight: int, side: wire.Side) -> None:
    assert wire.side_of(key, weight) == side


@given(key=header_values, low=st.integers(0, 10_000), more=st.integers(0, 10_000))
def test_a_key_on_the_units_side_stays_there_when_the_weight_grows(key: str, low: int, more: int) -> None:
    high = min(low + more, 10_000)
    assert not (wire.side_of(key, low) == wire.UNIT and wire.side_of(key, high) == wire.PARENT)


def test_one_percent_is_about_one_percent() -> None:
    on_unit = sum(wire.side_of(f"user-{n}", 100) == wire.UNIT for n in range(20_000))
    assert 140 <= on_unit <= 260


@pytest.mark.parametrize("key", ["", " a", "a ", "ä", "a\nb", "a\x00b"], ids=repr)
def test_what_cannot_stand_in_a_header_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        wire.slot(key)


@pytest.mark.parametrize("weight", [-1, 10_001])
def test_a_weight_outside_the_scale_is_refused(weight: int) -> None:
    with pytest.raises(ValueError, match="within 0 and 10000"):
        wire.side_of("a", weight)


def test_importing_the_sdk_does_not_import_spinyard() -> None:
    code = "import sys, spinyard_sdk.wire; sys.exit('spinyard' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
