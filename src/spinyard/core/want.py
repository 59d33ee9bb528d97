"""What is wanted from a provider or from the data plane: the payload of an `ensure`.

A closed union. It is stored in the ledger only where the world must be rebuilt from it without its owner (`RouteWant`,
`EndpointWant`: the data plane is served from the ledger before anything else runs); a `ProcessWant` is made anew from
the template at each `ensure`, so no environment is stored.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec

from spinyard.core.shift import Sticky
from spinyard.core.spec import EnvVar, Isolation, Limits, Probe


class ProcessWant(msgspec.Struct, frozen=True, tag="process", kw_only=True):
    """One program. `${NAME}` of ports, directories and env in command, args and env values is already expanded."""

    argv: tuple[str, ...]
    env: tuple[EnvVar, ...] = ()
    working_dir: str = ""
    ports: tuple[tuple[str, int], ...] = ()
    directories: tuple[str, ...] = ()
    """keys of DirectoryWants that must exist before; their paths are under the provider's own root"""
    directory_env: tuple[tuple[str, str], ...] = ()
    """(variable, directory key): the provider sets the variable to the directory's path"""
    limits: Limits = Limits()
    isolation: Isolation = Isolation.NONE
    grace_seconds: float = 30.0
    timeout_seconds: float | None = None
    """killed after this time; for bootstrap steps, jobs and tests"""
    log_name: str = ""
    """instances of one spin share a log directory of this name"""


class DirectoryWant(msgspec.Struct, frozen=True, tag="directory", kw_only=True):
    name: str


class FileWant(msgspec.Struct, frozen=True, tag="file", kw_only=True):
    """One small file in a directory that exists. Another content replaces it, in one rename."""

    directory: str
    """the key of its DirectoryWant"""
    name: str
    content: str


def content_mark(content: str) -> str:
    """Tells one content of a file from another."""
    return hashlib.sha256(content.encode()).hexdigest()[:16]


class EndpointState(StrEnum):
    ACTIVE = "active"
    UNHEALTHY = "unhealthy"
    """our own (exec) probe says no: known to the data plane, gets nothing"""
    DRAINING = "draining"


class EndpointWant(msgspec.Struct, frozen=True, tag="endpoint", kw_only=True):
    cluster: str
    address: str
    port: int
    state: EndpointState = EndpointState.ACTIVE
    spin: str = ""
    host: str = ""
    """in a cluster whose route has `by_host`: gets exactly the requests for this host name"""
    probe_port: int = 0
    """where the data plane's own health check goes; 0: to `port`"""


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """A second cluster that gets `weight` parts of 10,000 of the requests of a route."""

    cluster: str
    weight: int = 0
    probe: Probe | None = None
    sticky: Sticky = Sticky()


class RouteWant(msgspec.Struct, frozen=True, tag="route", kw_only=True):
    """One cluster and the requests that go to it. `probe` becomes the active health check of its endpoints."""

    cluster: str
    hosts: tuple[str, ...] = ()
    path_prefix: str = "/"
    probe: Probe | None = None
    timeout_seconds: float = 0.0
    http2: bool = False
    service: str = ""
    by_host: bool = False
    """each endpoint has a host name of its own (subset load balancing, no fallback); `hosts` is one `*.suffix`"""
    split: Split | None = None


class BoundaryRule(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of a boundary, as `core.spinout.BoundaryRoute` describes them. `weighted` False: always to the parent.
    `mirrored`: copied to where answers are compared."""

    path: str
    method: str = ""
    weighted: bool = True
    mirrored: bool = False


class BoundaryWant(msgspec.Struct, frozen=True, tag="boundary", kw_only=True):
    """Requests to a parent's hosts that match a rule are shared between parent and unit; all others stay untouched.

    `parent`, `unit`: "namespace/name" of Services whose RouteWants the data plane knows; it follows them when their
    clusters change. Its own clusters are `boundary_cluster(cluster, side)`: each side's weighted requests are counted
    by themselves, forced and mirrored ones elsewhere."""

    cluster: str
    parent: str
    unit: str
    rules: tuple[BoundaryRule, ...]
    weight: int = 0
    mirror: int = 0
    """parts of 10,000 of the requests of mirrored rules that are copied"""
    sticky: Sticky = Sticky()
    host: str = ""
    """host name under which the SDK calls the unit; at the parent's share the answer is 421 `local`"""
    jwks: str = ""


def boundary_cluster(cluster: str, side: str) -> str:
    """`side`: old, new, forced-old, forced-new, local."""
    return f"{cluster}~{side}"


Want = ProcessWant | DirectoryWant | FileWant | EndpointWant | RouteWant | BoundaryWant
