"""Testers choose a side by a token that a real Envoy checks; everybody else notices nothing of it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey
from msgspec.structs import replace

from spinyard.core.ids import ResourceKey
from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule
from spinyard.errors import ProviderFailure
from spinyard.usecases.forced_side import HEADER, mint_token, new_key, public_keys
from tests.proxy.boundary_world import KEY, WANT, BoundaryWorld

pytestmark = pytest.mark.anyio

PRIVATE = new_key()
JWKS = public_keys(PRIVATE)
RULES = (*WANT.rules, BoundaryRule(path="/upload", weighted=False))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[BoundaryWorld]:
    world = BoundaryWorld()
    try:
        await world.start()
        await world.share(5000, jwks=JWKS, rules=RULES)
        yield world
    finally:
        await world.stop()


def token(side: str, private: str = PRIVATE, *, name: str = "thumbs", at: float = 0.0, seconds: float = 60) -> str:
    now = time.time() + at
    return mint_token(private, namespace="default", name=name, side=side, now=now, seconds=seconds)


def signed(claims: Mapping[str, object], header: Mapping[str, object] | None = None) -> str:
    return jwt.encode({"alg": "ES256", **(header or {})}, dict(claims), ECKey.import_key(json.loads(PRIVATE)))


def claims(**other: object) -> dict[str, object]:
    return {"aud": "spinout:default/thumbs", "side": "unit", "exp": int(time.time()) + 60, **other}


@pytest.mark.parametrize("weight", [0, 5000, 10_000])
async def test_a_token_chooses_the_side_at_any_weight_and_is_counted_apart(world: BoundaryWorld, weight: int) -> None:
    await world.share(weight, jwks=JWKS, rules=RULES)
    sides = ("old", "new", "forced-old", "forced-new")
    before = await world.counted(*sides)
    for side in ("parent", "unit"):
        for method in ("GET", "POST"):
            said = await world.call("/thumbs/echo", {HEADER: token(side), "x-user": "me"}, method)
            echo = json.loads(said[1])
            assert (echo["name"], echo["headers"]["x-spinyard-side"]) == (side, side)
            assert HEADER not in echo["headers"], "no instance sees a token"
    after = await world.counted(*sides)
    assert {side: after[side] - before[side] for side in sides} == {
        "old": 0,
        "new": 0,
        "forced-old": 2,
        "forced-new": 2,
    }


def _none() -> str:
    parts = ({"alg": "none"}, claims())
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


def _symmetric() -> str:
    """Signed with the public key as if it were a secret."""
    return jwt.encode({"alg": "HS256"}, claims(), OctKey.import_key(JWKS))


BAD = {
    "expired": lambda: token("unit", at=-120),
    "not yet long enough ago": lambda: token("unit", at=-64),
    "another spinout's": lambda: token("unit", name="other"),
    "another key's": lambda: token("unit", new_key()),
    "no side": lambda: signed({name: value for name, value in claims().items() if name != "side"}),
    "another side": lambda: signed(claims(side="both")),
    "no audience": lambda: signed({name: value for name, value in claims().items() if name != "aud"}),
    "of no end": lambda: signed({name: value for name, value in claims().items() if name != "exp"}),
    "of no near end": lambda: signed(claims(exp=int(time.time()) + 10 * 86400)),
    "unsigned": _none,
    "symmetric": _symmetric,
    "cut": lambda: token("unit")[:-4],
    "changed": lambda: token("parent").rsplit(".", 1)[0] + "." + token("unit").rsplit(".", 1)[1],
    "garbage": lambda: "x" * 40,
    "empty": lambda: "",
    "long": lambda: "x." * 4000,
}


@pytest.mark.parametrize("made", BAD.values(), ids=BAD.keys())
async def test_a_token_that_is_not_right_is_a_401_that_says_so(world: BoundaryWorld, made: object) -> None:
    await world.share(5000, jwks=JWKS, rules=RULES)
    before = await world.counted("old", "new", "forced-old", "forced-new")
    assert callable(made)
    for method in ("GET", "POST"):
        status, text, headers = await world.call("/thumbs/1", {HEADER: made(), "x-user": "me"}, method)
        assert (status, headers["content-type"]) == (401, "application/problem+json")
        assert json.loads(text)["code"] == "force_refused"
        assert "spinyard spinout token" in json.loads(text)["detail"]
    assert await world.counted("old", "new", "forced-old", "forced-new") == before, "it reached nobody"


async def test_elsewhere_a_token_is_neither_checked_nor_passed_on(world: BoundaryWorld) -> None:
    await world.share(5000, jwks=JWKS, rules=RULES)
    for path in ("/elsewhere", "/upload"):
        for value in (token("unit"), "garbage"):
            said = await world.echo("/elsewhere", {HEADER: value})
            assert (said["name"], HEADER in said) == ("parent", False)
            assert await world.who(path, {HEADER: value}, "POST") == "parent"


async def test_without_keys_a_token_means_nothing(world: BoundaryWorld) -> None:
    await world.share(0, rules=RULES)
    said = await world.echo("/thumbs", {HEADER: token("unit")})
    assert (said["name"], HEADER in said) == ("parent", False)


async def test_other_keys_end_the_old_tokens_and_no_connection(world: BoundaryWorld) -> None:
    await world.share(0, jwks=JWKS, rules=RULES)
    names = r"^(listener_manager.listener_(added|modified|removed)|http.gateway.downstream_cx_(total|destroy))$"
    before = await world.counters(names)
    assert len(before) == 5
    other = new_key()
    await world.share(0, jwks=public_keys(other), rules=RULES)
    assert (await world.call("/thumbs/1", {HEADER: token("unit")}))[0] == 401
    assert await world.who("/thumbs/1", {HEADER: token("unit", other)}) == "unit"
    assert await world.counters(names) == before


async def test_two_spinouts_have_keys_of_their_own(world: BoundaryWorld) -> None:
    other = new_key()
    second = replace(
        WANT,
        cluster="spinout/default/second/1",
        rules=(BoundaryRule(path="/second"),),
        host="",
        sticky=Sticky(),
        jwks=public_keys(other),
    )
    await world.share(0, jwks=JWKS, rules=RULES)
    await world.provider.ensure(ResourceKey("second/boundary"), second)
    await world.acknowledged("second/boundary")
    assert await world.who("/second", {HEADER: token("unit", other, name="second")}) == "unit"
    assert await world.who("/thumbs/1", {HEADER: token("unit")}) == "unit"
    for path, value in (
        ("/second", token("unit", name="second")),
        ("/second", token("unit", other)),
        ("/thumbs/1", token("unit", other, name="thumbs")),
        ("/thumbs/1", token("unit", other, name="second")),
    ):
        assert (await world.call(path, {HEADER: value}))[0] == 401
    await world.removed("second/boundary")


@pytest.mark.parametrize(
    "jwks",
    [
        "x",
        "{}",
        '{"keys":[]}',
        '{"keys":[{"kty":"RSA","n":"a","e":"AQAB"}]}',
        json.dumps({"keys": [json.loads(PRIVATE)]}),
    ],
    ids=["no json", "no keys", "empty", "rsa", "private"],
)
async def test_keys_that_make_no_sense_are_refused_at_once(world: BoundaryWorld, jwks: str) -> None:
    with pytest.raises(ProviderFailure) as caught:
        await world.provider.ensure(ResourceKey(KEY), replace(WANT, jwks=jwks))
    assert not caught.value.retryable
