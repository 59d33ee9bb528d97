"""Tokens by which a tester chooses the side of a spinout's requests for a short time (`x-spinyard-force`).

A JWT, signed with ES256 (RFC 7519, RFC 7518): `aud` is `spinout:NAMESPACE/NAME`, `side` is parent or unit. Envoy checks
it with the public keys of the spinout; the private key stays with who hands out tokens.
"""

from __future__ import annotations

import json
from typing import Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from spinyard.errors import InvalidInput
from spinyard_sdk.wire import PARENT, UNIT

HEADER: Final = "x-spinyard-force"
SECONDS_DEFAULT: Final = 900.0
SECONDS_MAX: Final = 12 * 3600.0
"""less than what Envoy takes at most, so that a clock that is a little wrong does no harm"""
_ALGORITHM = "ES256"


def new_key() -> str:
    """A private key, as the text of a JWK: keep it where only its owner reads."""
    key = ECKey.generate_key("P-256", parameters={"use": "sig", "alg": _ALGORITHM}, private=True)
    return json.dumps(key.as_dict(private=True), sort_keys=True)


def public_keys(private_key: str) -> str:
    """The JWKS that belongs to it, as text; it is no secret. Raises InvalidInput."""
    return json.dumps({"keys": [_key(private_key).as_dict(private=False)]}, sort_keys=True)


def mint_token(
    private_key: str, *, namespace: str, name: str, side: str, now: float, seconds: float = SECONDS_DEFAULT
) -> str:
    """`now`: unix seconds. Raises InvalidInput."""
    if side not in (PARENT, UNIT):
        raise InvalidInput(
            f"{side[:40]!r} is not a side of a spinout.",
            code="invalid_side",
            next_step=f"Give --side {PARENT} or --side {UNIT}.",
        )
    if not 1 <= seconds <= SECONDS_MAX:
        raise InvalidInput(
            f"A token lasts 1 second to {SECONDS_MAX / 3600:g} hours, not {seconds:g} s.",
            code="invalid_lifetime",
            next_step="Ask for a shorter one; a new one is made at once.",
        )
    claims = {"aud": f"spinout:{namespace}/{name}", "side": side, "iat": int(now), "exp": int(now + seconds)}
    return jwt.encode({"alg": _ALGORITHM}, claims, _key(private_key))


def _key(private_key: str) -> ECKey:
    try:
        found = json.loads(private_key)
        key = ECKey.import_key(found)
    except (ValueError, TypeError, KeyError, JoseError) as error:
        raise _not_a_key() from error
    if not key.is_private or found.get("crv") != "P-256":
        raise _not_a_key()
    return key


def _not_a_key() -> InvalidInput:
    """Says nothing of what it is: it may be a secret all the same."""
    return InvalidInput(
        "What should be the private key of a spinout's tokens is none (a JWK, EC on the curve P-256).",
        code="invalid_key",
        next_step="Make a new one; tokens of the old one end then.",
    )
