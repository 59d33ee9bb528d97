import pytest

from spinyard.store import SqlStore
from spinyard.testing.store_contract import STORE_CONTRACT, Check


@pytest.mark.parametrize("check", STORE_CONTRACT, ids=lambda check: check.__name__)
def test_the_store_keeps_its_contract(check: Check, store: SqlStore) -> None:
    check(store)
