"""Tokens of testers: what is in them, and what is not made. That Envoy takes them is in tests/proxy."""

from __future__ import annotations

import json

import pytest
from joserfc import jwt
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from spinyard.errors import InvalidInput
from spinyard.usecases.forced_side import mint_token, new_key, public_keys

KEY = new_key()


def test_a_token_says_for_which_spinout_which_side_and_until_when() -> None:
    token = mint_token(KEY, namespace="shop", name="thumbs", side="unit", now=1000.7, seconds=60)
    found = jwt.decode(token, KeySet.import_key_set(json.loads(public_keys(KEY))), algorithms=["ES256"])
    assert found.header["alg"] == "ES256"
    assert found.claims == {"aud": "spinout:shop/thumbs", "side": "unit", "iat": 1000, "exp": 1060}


def test_what_is_published_of_a_key_is_not_private() -> None:
    (public,) = json.loads(public_keys(KEY))["keys"]
    assert "d" in json.loads(KEY)
    assert "d" not in public
    assert (public["kty"], public["crv"]) == ("EC", "P-256")


def test_the_token_of_another_key_is_not_taken() -> None:
    token = mint_token(KEY, namespace="n", name="s", side="parent", now=0.0)
    with pytest.raises(BadSignatureError):
        jwt.decode(token, KeySet.import_key_set(json.loads(public_keys(new_key()))), algorithms=["ES256"])


@pytest.mark.parametrize("seconds", [0, -1, 12 * 3600 + 1, float("inf"), float("nan")])
def test_a_lifetime_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidInput) as caught:
        mint_token(KEY, namespace="n", name="s", side="unit", now=0.0, seconds=seconds)
    assert caught.value.code == "invalid_lifetime"


@pytest.mark.parametrize("side", ["", "new", "Unit", "unit "])
def test_a_side_that_is_none_is_refused(side: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mint_token(KEY, namespace="n", name="s", side=side, now=0.0)
    assert caught.value.code == "invalid_side"


@pytest.mark.parametrize(
    "key",
    ["", "x", "{}", "[]", "null", '{"kty":"oct","k":"c2VjcmV0"}', json.dumps(json.loads(public_keys(KEY))["keys"][0])],
)
def test_what_is_no_private_key_is_refused_without_repeating_it(key: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        mint_token(key, namespace="n", name="s", side="unit", now=0.0)
    assert caught.value.code == "invalid_key"
    assert "c2VjcmV0" not in str(caught.value)
