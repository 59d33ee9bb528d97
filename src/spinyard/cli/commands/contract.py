"""`contract`: what a unit takes and answers, extracted, compared, and asked of the unit itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from spinyard.cli.contract_source import load
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.options import COMMON, Common
from spinyard.cli.output import print_data

if TYPE_CHECKING:
    from spinyard.cli.contract_verify import Asking

Verb = Literal["extract", "diff", "verify"]

SECONDS_MAX = 3600.0
REQUESTS_MAX = 100_000
_FLAGS = {
    "extract": ("route",),
    "diff": ("route", "accept"),
    "verify": ("route", "contract", "param", "header", "safe", "allow_remote"),
}


def contract(
    verb: Annotated[
        Verb,
        Parameter(
            name="VERB",
            help="extract SOURCE: the contract of functions marked with @boundary, or of an application, as OpenAPI."
            " diff OLD NEW: what breaks those who call. verify URL --contract FILE: ask the running unit.",
        ),
    ],
    sources: Annotated[
        tuple[str, ...],
        Parameter(
            name="SOURCE",
            allow_leading_hyphen=True,
            help="A file (.yaml, .json, .py), - for standard input, a URL, or module:object.",
        ),
    ] = (),
    /,
    *,
    route: Annotated[
        tuple[str, ...],
        Parameter(name="--route", help="Only this operation, as 'GET /photos/{id}'. May be given again."),
    ] = (),
    accept: Annotated[
        tuple[str, ...], Parameter(name="--accept", help="With diff: this id breaks nobody here. May be given again.")
    ] = (),
    contract_file: Annotated[
        str, Parameter(name="--contract", help="With verify: the contract; any SOURCE will do.")
    ] = "",
    seconds: Annotated[float, Parameter(name="--seconds", help="With verify: how long to ask.")] = 30.0,
    request_seconds: Annotated[
        float, Parameter(name="--request-seconds", help="With verify: how long an answer may take.")
    ] = 5.0,
    requests: Annotated[int, Parameter(name="--requests", help="With verify: how many requests at most.")] = 2000,
    seed: Annotated[int, Parameter(name="--seed", help="With verify: the same seed asks the same questions.")] = 0,
    param: Annotated[
        tuple[str, ...],
        Parameter(name="--param", help="With verify: NAME=VALUE for a path or query parameter. May be given again."),
    ] = (),
    header: Annotated[
        tuple[str, ...],
        Parameter(name="--header", help="With verify: 'Name: value' on each request; never shown. May be given again."),
    ] = (),
    safe: Annotated[bool, Parameter(name="--safe", help="With verify: only GET, HEAD and OPTIONS.")] = False,
    allow_remote: Annotated[
        bool, Parameter(name="--allow-remote", help="With verify: also a unit on another machine.")
    ] = False,
    common: Common = COMMON,
) -> int:
    """What a unit takes and answers: extract it as OpenAPI, compare two versions, ask the running unit."""
    given = {"route": route, "accept": accept, "contract": contract_file, "param": param, "header": header}
    _refuse_others(verb, given | {"safe": safe, "allow_remote": allow_remote})
    match verb:
        case "extract":
            (source,) = _expect(sources, 1, "contract extract SOURCE")
            return _extract(source, route, common)
        case "diff":
            old, new = _expect(sources, 2, "contract diff OLD NEW")
            return _diff(old, new, route, accept, common)
        case "verify":
            (url,) = _expect(sources, 1, "contract verify URL --contract FILE")
            if not contract_file:
                raise Usage("which contract?", next_step=f"spinyard contract verify {url} --contract FILE")
            if (
                not 0 < min(seconds, request_seconds) <= max(seconds, request_seconds) <= SECONDS_MAX
                or not 0 < requests <= REQUESTS_MAX
            ):
                raise Usage(
                    f"--seconds and --request-seconds are up to {SECONDS_MAX:.0f}, --requests up to {REQUESTS_MAX}"
                )
            from spinyard.cli.contract_verify import Asking

            return _verify(
                contract_file,
                route,
                Asking(url, seconds, request_seconds, requests, seed, _pairs(header, ":"), _pairs(param, "="), safe),
                common,
                allow_remote=allow_remote,
            )


def _extract(source: str, routes: Sequence[str], common: Common) -> int:
    from spinyard.cli.contract_text import print_document
    from spinyard.spinout.contract import restrict

    print_document(restrict(load(source), routes), common.output)
    return Exit.OK


def _diff(old: str, new: str, routes: Sequence[str], accepted: Sequence[str], common: Common) -> int:
    from spinyard.cli.contract_text import print_diff
    from spinyard.spinout.contract import CHECKS, compare, restrict

    unknown = [one for one in accepted if one not in CHECKS]
    if unknown:
        raise Usage(f"there is no finding {unknown[0]}", next_step="docs/contracts.md lists them")
    if old == new == "-":
        raise Usage("standard input can be read once only")
    before = restrict(load(old), routes) if routes else load(old)
    after = restrict(load(new), routes, may_lack=True) if routes else load(new)
    found = compare(before, after).accepting(accepted)
    if common.is_data:
        print_data({"apiVersion": "spinyard.dev/v1", "kind": "ContractDiff", **found.as_data()}, common.output)
    else:
        print_diff(found)
    return Exit.OK if found.is_compatible else Exit.FAILED


def _verify(source: str, routes: Sequence[str], asking: Asking, common: Common, *, allow_remote: bool) -> int:
    from spinyard.cli.contract_text import print_verification
    from spinyard.cli.contract_verify import EXIT_OF, check_place, need_schemathesis, verify
    from spinyard.spinout.contract import digest, restrict

    need_schemathesis()
    document = restrict(load(source), routes)
    check_place(asking.url, allow_remote=allow_remote)
    found = verify(document, asking)
    if common.is_data:
        print_data(found.as_data(asking.url, digest(document)), common.output)
    else:
        print_verification(found)
    return EXIT_OF[found.verdict]


def _refuse_others(verb: Verb, given: Mapping[str, object]) -> None:
    for name, value in given.items():
        if value and name not in _FLAGS[verb]:
            raise Usage(f"--{name.replace('_', '-')} means nothing for {verb}", next_step="spinyard contract --help")


def _expect(sources: Sequence[str], count: int, usage: str) -> Sequence[str]:
    # A lone - is standard input, so the parser lets everything through that begins like it.
    unknown = [one for one in sources if one.startswith("-") and one != "-"]
    if unknown:
        raise Usage(f"unknown option {unknown[0]}", next_step="spinyard contract --help")
    if len(sources) != count:
        raise Usage(f"{len(sources)} sources were given", next_step=f"spinyard {usage}")
    return sources


def _pairs(given: Sequence[str], mark: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for one in given:
        name, found, value = one.partition(mark)
        if not found or not name.strip():
            # What stands there may be a secret: it is not repeated.
            raise Usage(f"each --{'header' if mark == ':' else 'param'} is NAME{mark}VALUE")
        out[name.strip()] = value.strip()
    return out
