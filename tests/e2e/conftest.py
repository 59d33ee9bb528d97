"""One server for each module: a start is dear, and so many things side by side in one home are a test of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.house import House


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    house = House()
    try:
        house.start()
        yield house
    finally:
        house.close()


@pytest.fixture
def empty_house() -> Iterator[House]:
    """Nothing runs in it yet."""
    house = House()
    yield house
    house.close()
