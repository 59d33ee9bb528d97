"""The protocol, without a network: a model of Envoy that takes messages in any pace, refuses, and reconnects."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, note, settings
from hypothesis import strategies as st

from spinyard.proxy.xds_stream import (
    CLUSTER,
    ENDPOINTS,
    LISTENER,
    ROUTES,
    RUNTIME,
    Catalogue,
    Change,
    Request,
    Stream,
    Update,
)

BAD = b"bad"


@dataclass
class ModelEnvoy:
    """Keeps what it took over a reconnect. Clusters are confirmed only when all are warm, as the real one does; until
    then a changed one serves as it was, and a new one is cold.

    The body of a route configuration is the clusters it names, comma separated.
    """

    held: dict[str, dict[str, tuple[str, bytes]]] = field(
        default_factory=lambda: {k: {} for k in (CLUSTER, ENDPOINTS, LISTENER, ROUTES, RUNTIME)}
    )
    warming: set[str] = field(default_factory=set)
    cold: set[str] = field(default_factory=set)
    cold_ack: Request | None = None
    outbox: deque[Request] = field(default_factory=deque)
    opened: set[str] = field(default_factory=set)

    def connect(self) -> None:
        self.outbox.clear()
        self.opened = set()
        self.cold_ack = None
        for kind in (CLUSTER, ENDPOINTS, LISTENER, ROUTES):
            if kind in (CLUSTER, LISTENER) or self._interest(kind):
                self._open(kind)

    def _interest(self, kind: str) -> set[str]:
        if kind == ENDPOINTS:
            return set(self.held[CLUSTER])
        return {"gateway"} if self.held[LISTENER] else set()

    def _open(self, kind: str) -> None:
        self.opened.add(kind)
        names = () if kind in (CLUSTER, LISTENER) else tuple(sorted(self._interest(kind)))
        versions = tuple((name, version) for name, (version, _) in self.held[kind].items())
        self.outbox.append(Request(kind, subscribe=names, initial_versions=versions))

    def take(self, update: Update) -> None:
        bad = [resource.name for resource in update.resources if resource.body == BAD]
        if bad:
            self.outbox.append(Request(update.kind, nonce=update.nonce, error=f"refused: {bad}"))
            return
        for resource in update.resources:
            self._apply(update.kind, resource.name, (resource.version_text, resource.body))
        for name in update.removed:
            self._remove(update.kind, name)
        ack = Request(update.kind, nonce=update.nonce)
        if update.kind == CLUSTER and self.warming:
            self.cold_ack = ack
        else:
            self.outbox.append(ack)
        if update.kind == ENDPOINTS and not self.warming and self.cold_ack is not None:
            self.outbox.append(self.cold_ack)
            self.cold_ack = None

    def _apply(self, kind: str, name: str, value: tuple[str, bytes]) -> None:
        if kind == CLUSTER:
            is_new = name not in self.held[CLUSTER]
            self.warming.add(name)
            self.cold |= {name} if is_new else set()
            self.held[kind][name] = value
            if is_new:
                self._ask(ENDPOINTS, name)
        elif kind == LISTENER:
            is_new = not self.held[LISTENER]
            self.held[kind][name] = value
            if is_new:
                self._ask(ROUTES, "gateway")
        else:
            if kind == ROUTES:
                self._check_routes(value[1])
            self.held[kind][name] = value
            if kind == ENDPOINTS:
                self.warming.discard(name)
                self.cold.discard(name)

    def _ask(self, kind: str, name: str) -> None:
        if kind in self.opened:
            self.outbox.append(Request(kind, subscribe=(name,)))
        else:
            self._open(kind)

    def _check_routes(self, body: bytes) -> None:
        for name in filter(None, body.decode().split(",")):
            assert name in self.held[CLUSTER], f"a route names {name}, which is not there yet"
            assert name in self.held[ENDPOINTS], f"a route names {name}, which has no endpoints yet"
            assert name not in self.cold, f"a route names {name}, which was never warm"

    def _remove(self, kind: str, name: str) -> None:
        if kind == CLUSTER:
            named = self.held[ROUTES].get("gateway", ("", b""))[1].decode().split(",")
            assert name not in named, f"{name} is removed while a route names it"
            self.warming.discard(name)
            self.cold.discard(name)
            self.held[ENDPOINTS].pop(name, None)
            if name in self.held[CLUSTER]:
                self.outbox.append(Request(ENDPOINTS, unsubscribe=(name,)))
        elif kind == ENDPOINTS:
            self.warming.discard(name)
            self.cold.discard(name)
        self.held[kind].pop(name, None)


class Wire:
    """Catalogue, one stream and the model, with messages on their way in between."""

    def __init__(self) -> None:
        self.catalogue = Catalogue(100)
        self.envoy = ModelEnvoy()
        self.inbox: deque[Update] = deque()
        self.now = 0.0
        self.catalogue.publish([Change(LISTENER, "gateway", b"l"), Change(ROUTES, "gateway", b"")])
        self.connect()

    def connect(self) -> None:
        self.stream = Stream(self.catalogue, "n")
        self.inbox.clear()
        self.envoy.connect()

    def publish(self, clusters: dict[str, bytes], endpoints: bytes, routed: list[str]) -> None:
        changes = [Change(CLUSTER, name, body) for name, body in clusters.items()]
        changes += [Change(ENDPOINTS, name, endpoints) for name in clusters]
        gone = self.catalogue.wanted[CLUSTER].keys() - clusters.keys()
        changes += [Change(kind, name, None) for name in sorted(gone) for kind in (CLUSTER, ENDPOINTS)]
        changes.append(Change(ROUTES, "gateway", ",".join(routed).encode(), clusters=frozenset(routed)))
        self.stream.changed(self.catalogue.publish(changes))

    def up(self) -> bool:
        if not self.envoy.outbox:
            return False
        self.now += 1
        self.stream.receive(self.envoy.outbox.popleft(), self.now)
        return True

    def down(self) -> bool:
        self.inbox.extend(self.stream.take())
        if not self.inbox:
            return False
        self.envoy.take(self.inbox.popleft())
        return True

    def settle(self) -> None:
        for _ in range(2000):
            up, down = self.up(), self.down()
            if not up and not down:
                return
        raise AssertionError("it never comes to rest")


_names = st.sampled_from(["a", "b", "c", "d", "e"])
_publish = st.tuples(
    st.just("publish"),
    st.dictionaries(_names, st.sampled_from([b"1", b"2", BAD]), max_size=5),
    st.sampled_from([b"x", b"y"]),
)
_steps = st.lists(st.one_of(_publish, st.sampled_from(["up", "down", "down", "connect"])), max_size=40)


@settings(max_examples=200, deadline=None)
@given(_steps)
def test_in_any_pace_no_route_names_a_missing_cluster_and_all_comes_to_rest(steps: list[object]) -> None:
    note(f"{steps}")
    wire = Wire()
    for step in steps:
        match step:
            case ("publish", dict() as clusters, bytes() as endpoints):
                # A cluster that Envoy never took is not routed: the table would name nothing.
                ever_good = [n for n, body in sorted(clusters.items()) if body != BAD]
                wire.publish(clusters, endpoints, ever_good)
            case "up":
                wire.up()
            case "down":
                wire.down()
            case _:
                wire.connect()
    wire.settle()
    wanted, held = wire.catalogue.wanted, wire.envoy.held
    good = {name for name, resource in wanted[CLUSTER].items() if resource.body != BAD}
    for name in good:
        assert held[CLUSTER][name][1] == wanted[CLUSTER][name].body
        assert held[ENDPOINTS][name][1] == wanted[ENDPOINTS][name].body
        confirmed = wire.stream.confirmed(CLUSTER, name)
        assert confirmed is not None and confirmed.version == wanted[CLUSTER][name].version
    assert held[ROUTES]["gateway"][1] == wanted[ROUTES]["gateway"].body
    assert held[CLUSTER].keys() <= wanted[CLUSTER].keys(), "what is not wanted is gone"
    for name in wanted[CLUSTER].keys() - good:
        assert "refused" in wire.stream.refusal(CLUSTER, name)
        assert wire.stream.refusal(CLUSTER, name) == f"refused: ['{name}']"
    assert wire.stream.is_settled(wire.catalogue.version)


def _settled(clusters: dict[str, bytes]) -> Wire:
    wire = Wire()
    wire.publish(clusters, b"x", sorted(clusters))
    wire.settle()
    return wire


def test_a_new_connection_with_the_same_content_is_sent_nothing() -> None:
    wire = _settled({"a": b"1", "b": b"1"})
    wire.connect()
    sent: list[Update] = []
    while wire.up():
        sent += wire.stream.take()
        wire.inbox.clear()
        for update in sent:
            wire.stream.receive(Request(update.kind, nonce=update.nonce), 0)
    assert [update.names for update in sent if update.names] == []
    assert wire.stream.is_settled(wire.catalogue.version)


def test_a_restarted_server_knows_its_content_again_whatever_its_version() -> None:
    wire = _settled({"a": b"1"})
    wire.catalogue = Catalogue(10_000)
    wire.catalogue.publish(
        Change(kind, name, body)
        for kind, name, body in (
            (LISTENER, "gateway", b"l"),
            (ROUTES, "gateway", b"a"),
            (CLUSTER, "a", b"1"),
            (ENDPOINTS, "a", b"y"),
        )
    )
    wire.connect()
    wire.settle()
    assert wire.envoy.held[ENDPOINTS]["a"][1] == b"y"
    assert wire.envoy.held[CLUSTER]["a"][0].startswith("1"), "the cluster was not sent again"
    assert not wire.envoy.held[CLUSTER]["a"][0].startswith("10001")
    confirmed = wire.stream.confirmed(CLUSTER, "a")
    assert confirmed is not None and confirmed.version == 10_001


def test_one_update_is_under_way_per_kind() -> None:
    wire = _settled({"a": b"1"})
    wire.publish({"a": b"1"}, b"y", ["a"])
    first = wire.stream.take()
    wire.publish({"a": b"1"}, b"z", ["a"])
    assert [update.kind for update in first] == [ENDPOINTS]
    assert wire.stream.take() == []
    wire.stream.receive(Request(ENDPOINTS, nonce=first[0].nonce), 1)
    assert [update.resources[0].body for update in wire.stream.take()] == [b"z"]


def test_an_answer_to_an_older_update_confirms_nothing() -> None:
    wire = _settled({"a": b"1"})
    wire.publish({"a": b"1"}, b"y", ["a"])
    wire.stream.take()
    before = wire.stream.confirmed(ENDPOINTS, "a")
    wire.stream.receive(Request(ENDPOINTS, nonce="stale"), 1)
    assert wire.stream.confirmed(ENDPOINTS, "a") == before


def test_endpoints_replaced_for_ever_do_not_hold_up_the_routes() -> None:
    wire = _settled({"a": b"1"})
    wire.publish({"a": b"1", "b": b"1"}, b"0", ["a", "b"])
    for number in range(30):
        wire.publish({"a": b"1", "b": b"1"}, str(number).encode(), ["a", "b"])
        wire.up()
        wire.down()
        wire.down()
    assert wire.envoy.held[ROUTES]["gateway"][1] == b"a,b"


def test_routes_wait_for_the_clusters_that_they_name_newly_and_for_no_others() -> None:
    wire = _settled({"a": b"1", "b": b"1"})

    def sent(clusters: dict[str, bytes], routed: list[str]) -> list[str]:
        wire.publish(clusters, b"x", routed)
        return [update.kind for update in wire.stream.take()]

    assert ROUTES in sent({"a": b"1", "b": b"2"}, ["a"]), "b is changed, and may never get warm"
    first = wire.stream._kinds[ROUTES].in_flight
    assert first is not None
    wire.stream.receive(Request(ROUTES, nonce=first.nonce), 1)
    assert ROUTES not in sent({"a": b"1", "b": b"2"}, ["a", "b"]), "b is named anew"
    wire = _settled({"a": b"1", "b": b"1"})
    assert ROUTES in sent({"a": b"1", "b": b"2"}, ["b"]), "it serves as it was until it is warm"


def test_a_version_never_goes_back_and_the_same_is_no_change() -> None:
    catalogue = Catalogue(5)
    assert len(catalogue.publish([Change(CLUSTER, "a", b"1")])) == 1
    assert catalogue.publish([Change(CLUSTER, "a", b"1")]) == []
    assert catalogue.publish([Change(CLUSTER, "b", None)]) == []
    assert catalogue.version == 6
    assert len(catalogue.publish([Change(CLUSTER, "a", None)])) == 1
    assert catalogue.version == 7
