"""PURE. A tester's token: a JWT that lets one choose the side of a spinout's requests for a short time.

Envoy's own filter checks it, but only on a route that asks for it, and only requests that carry the header meet such a
route: all others pay nothing. The keys come to the filter by a resource of its own, not with the listener, as another
listener would end the connections of the one before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from spinyard.core.want import BoundaryWant
from spinyard.proxy.translate import ADS, TYPES

Dict = dict[str, Any]

HEADER = "x-spinyard-force"
FILTER = "spinyard.force"
CONFIG_TYPE = TYPES + "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
LIFETIME_SECONDS_MAX = 24 * 3600
CLOCK_SKEW_SECONDS = 1
KEYS_MAX = 8
_JWT_FILTER = "envoy.filters.http.jwt_authn"
_PAYLOAD = "force"


def audience(want: BoundaryWant) -> str:
    """`spinout:NAMESPACE/NAME`, from the name of its cluster: `spinout/NAMESPACE/NAME/...`."""
    return "spinout:" + "/".join(want.cluster.split("/")[1:3])


def http_filter() -> Dict:
    return {
        "name": FILTER,
        "config_discovery": {
            "config_source": ADS,
            "type_urls": [CONFIG_TYPE],
            # Without its keys a gateway serves all but testers.
            "default_config": {"@type": CONFIG_TYPE},
            "apply_default_config_without_warming": True,
        },
    }


def extension(jwks: Iterable[str]) -> Dict:
    """The resource of that name: the checks that routes may ask for."""
    known = {_name(text): text for text in jwks if text}
    config: Dict = {"@type": CONFIG_TYPE}
    if known:
        config["providers"] = {name: _provider(text) for name, text in sorted(known.items())}
        config["requirement_map"] = {name: {"provider_name": name} for name in sorted(known)}
    return {"name": FILTER, "typed_config": config}


def claims(want: BoundaryWant, side: str) -> list[Dict]:
    """What a checked token must say."""
    said = (("aud", audience(want)), ("side", side))
    return [
        {
            "filter": _JWT_FILTER,
            "path": [{"key": _PAYLOAD}, {"key": claim}],
            "value": {"string_match": {"exact": value}},
        }
        for claim, value in said
    ]


def refused(want: BoundaryWant) -> Dict:
    """Of a route: asks for the check, and answers itself when there is no other place for the request."""
    asked = {
        "@type": TYPES + "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig",
        "requirement_name": _name(want.jwks),
    }
    return {
        "direct_response": {"status": 401, "body": {"inline_string": "not a token for this spinout"}},
        "typed_per_filter_config": {FILTER: asked},
    }


def jwks_problem(text: str) -> str:
    """Why these cannot be the keys, or empty. Envoy would take them, and then refuse every token."""
    if not text:
        return ""
    try:
        keys = msgspec.json.decode(text, type=_Keys).keys
    except msgspec.MsgspecError as error:
        return f"the keys of testers are not a JWKS: {error}"
    if not 0 < len(keys) <= KEYS_MAX:
        return f"the keys of testers are 1 to {KEYS_MAX}"
    if any(key.d for key in keys):
        return "the keys of testers must be public ones"
    if any((key.kty, key.crv) != ("EC", "P-256") or not key.x or not key.y for key in keys):
        return "the keys of testers are of ES256: EC on the curve P-256, with x and y"
    return ""


class _Key(msgspec.Struct):
    kty: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    d: str = ""


class _Keys(msgspec.Struct):
    keys: list[_Key]


def _name(jwks: str) -> str:
    return hashlib.sha256(jwks.encode()).hexdigest()[:16]


def _provider(jwks: str) -> Dict:
    return {
        "from_headers": [{"name": HEADER}],
        "local_jwks": {"inline_string": jwks},
        # The route is chosen again by this header; it is taken off behind that.
        "forward": True,
        "require_expiration": True,
        "max_lifetime": f"{LIFETIME_SECONDS_MAX}s",
        "clock_skew_seconds": CLOCK_SKEW_SECONDS,
        "payload_in_metadata": _PAYLOAD,
        "clear_route_cache": True,
    }
