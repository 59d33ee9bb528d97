"""Boundaries without an Envoy: what is refused before it could harm others, paths, and which headers outsiders keep."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from spinyard.core.shift import Sticky
from spinyard.core.want import BoundaryRule
from spinyard.errors import ProviderFailure
from spinyard.proxy import facts
from spinyard.proxy.translate_inside import Inside, inside_problem
from spinyard.proxy.translate_listener import all_but
from spinyard.proxy.translate_paths import is_below, most_specific_first, path_match, rule_problem
from tests.proxy.boundary_world import WANT


@pytest.mark.parametrize(
    "fields",
    [
        {"cluster": ""},
        {"cluster": "c" * 195},
        {"parent": ""},
        {"unit": ""},
        {"unit": WANT.parent},
        {"rules": ()},
        {"rules": (BoundaryRule(path="/a"),) * 201},
        {"weight": -1},
        {"weight": 10_001},
        {"mirror": 10_001},
        {"sticky": Sticky(header="a", cookie="b")},
        {"sticky": Sticky(header="a b")},
        {"host": "a b"},
        {"host": "*"},
        {"host": "*.spinout"},
        {"host": "a\ud800"},
        {"jwks": "{"},
    ],
    ids=str,
)
def test_a_boundary_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    facts.check(WANT)
    with pytest.raises(ProviderFailure) as caught:
        facts.check(replace(WANT, **fields))
    assert not caught.value.retryable


@pytest.mark.parametrize(
    "path",
    [
        *("", "a", "*", "/a*", "/*/a", "/a/**", "//", "/a//b", "/a/../b", "/./a", "/a/.."),
        *("/{}", "/{a", "/a}", "/x{a}", "/{a}y", "/{a b}", "/{*}", "/a?b=1", "/a#b", "/a b", "/ä", "/a\n", "/a\\b"),
        *("/" + "a" * 1024, "/a" * 65, "/[a]", "/a|b", "/(?i)a|", "http://x/a"),
    ],
)
def test_a_path_that_is_none_is_refused(path: str) -> None:
    assert rule_problem(BoundaryRule(path=path))


@pytest.mark.parametrize("path", ["/", "/*", "/a", "/a/", "/{id}", "/a/{id}/b/*", "/a.b-c~d_e%20(x)+@:,;=!$&'"])
def test_a_path_of_the_three_kinds_is_taken(path: str) -> None:
    assert rule_problem(BoundaryRule(path=path, method="GET")) == ""


@pytest.mark.parametrize("method", ["get", "G T", "GET|POST", "G" * 21, "GET\n"])
def test_a_method_that_is_none_is_refused(method: str) -> None:
    assert rule_problem(BoundaryRule(path="/a", method=method))


_SEGMENTS = st.lists(st.sampled_from(["a", "b.c", "{x}", "a+b"]), min_size=1, max_size=4)


@given(_SEGMENTS, st.booleans(), st.lists(st.sampled_from(["a", "b.c", "bxc", "a+b", "z", ""]), max_size=6))
def test_a_path_means_what_its_segments_mean(segments: list[str], rest: bool, asked: list[str]) -> None:
    path = "/" + "/".join([*segments, *(["*"] if rest else [])])
    named = asked[: len(segments)]
    whole = len(named) == len(segments) and all(
        bool(there) if wanted == "{x}" else there == wanted for wanted, there in zip(segments, named, strict=True)
    )
    expected = whole and (len(asked) > len(segments) if rest else len(asked) == len(segments))
    assert _matches(path_match(path), "/" + "/".join(asked)) == expected


def _matches(match: dict[str, Any], path: str) -> bool:
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return path.startswith(match["prefix"]) if "prefix" in match else path == match["path"]


def test_the_most_specific_rule_is_first() -> None:
    paths = ["/a/b/c", "/a/b/{x}", "/a/b/*", "/a/b", "/a/{x}/c", "/a/{x}", "/a/*", "/{x}/b", "/*"]
    rules = [BoundaryRule(path=path, method=method) for path in paths for method in ("GET", "")]
    found = most_specific_first(reversed(rules))
    assert [rule.path for rule in found if rule.method] == sorted(paths, key=lambda path: _order(path))
    assert all(
        found.index(BoundaryRule(path=path, method="GET")) + 1 == found.index(BoundaryRule(path=path)) for path in paths
    )


def _order(path: str) -> list[int]:
    return [{"{": 1, "*": 2}.get(segment[:1], 0) for segment in path.split("/")[1:]]


@pytest.mark.parametrize(
    ("path", "prefix", "expected"),
    [
        ("/a", "/", True),
        ("/api", "/api", True),
        ("/api/x", "/api", True),
        ("/api/*", "/api", True),
        ("/apix", "/api", False),
        ("/*", "/api", False),
        ("/{x}/y", "/api", False),
    ],
)
def test_a_rule_is_below_a_prefix_only_when_all_its_requests_are(path: str, prefix: str, *, expected: bool) -> None:
    assert is_below(path, prefix) == expected


@given(st.text(st.sampled_from("force-xs"), max_size=8))
def test_outsiders_keep_one_header_of_ours_and_no_other(rest: str) -> None:
    pattern = all_but("x-spinyard-", "force")
    assert bool(re.fullmatch(pattern, f"x-spinyard-{rest}")) == (rest != "force")
    assert not re.fullmatch(pattern, f"x-mine-{rest}")


@pytest.mark.parametrize(
    "inside",
    [
        Inside(8081, Path("/r/s"), address="0.0.0.0"),
        Inside(8081, Path("/r/s"), address="10.0.0.1"),
        Inside(0, Path("/r/s")),
        Inside(8081, Path("/" + "x" * 100)),
        Inside(8081, Path("/r/s"), comparator_socket=Path("/" + "x" * 100)),
    ],
)
def test_a_listener_for_our_own_is_on_loopback_and_its_sockets_have_short_names(inside: Inside) -> None:
    assert inside_problem(inside)
    assert inside_problem(Inside(8081, Path("/r/s"), address="::1")) == ""
