"""A Service while a Rollout has a part in it: the stable side is as without it, the new one is as its part says."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spinyard.core.ids import Uid, resource_key
from spinyard.core.observed import (
    Absent,
    Answer,
    ChildBrief,
    ChildFailure,
    ChildGroup,
    Children,
    DirectoryFacts,
    Look,
    LookChildren,
    LookResource,
    Observed,
    Present,
    RouteFacts,
    Seen,
    Unknown,
)
from spinyard.core.plan import CreateChild, DeleteChild, Plan, WakeChild
from spinyard.core.row import ObjectRow
from spinyard.core.spec import (
    DataDirectory,
    DirectoryScope,
    Exec,
    HttpGet,
    Probe,
    RollingUpdate,
    RolloutPart,
    Route,
    ServiceSpec,
    TemplateSpec,
)
from spinyard.core.want import RouteWant, Split
from spinyard.spin.service.snapshot import ALIVE
from spinyard.spin.service.status import ServiceStatus, Shown
from tests.spin.services import (
    DOMAIN,
    NEW,
    NOW,
    OLD,
    ROUTE,
    UID,
    after,
    asked,
    decide,
    digest,
    failures,
    fleet,
    group,
    service,
    status_of,
)

ROLLOUT = Uid("rollout-uid")
BASE = f"default/web/{UID[:8]}"
OLDER = replace(OLD, command=("older",))
FULL = group("serving", OLD, range(3))
CANARY = group("serving", NEW, range(3, 4))
BEFORE = fleet(FULL, highest_slot=2)
BOTH = fleet(FULL, CANARY, highest_slot=3)


def part(**fields: Any) -> RolloutPart:
    wish = RolloutPart(ROLLOUT, "web-1", digest(NEW), side="aaaa", serial=1, replicas=1, weight=500)
    return replace(wish, **fields)


def spec_of(row: ObjectRow) -> ServiceSpec:
    assert isinstance(row.spec, ServiceSpec)
    return row.spec


def with_part(row: ObjectRow, wish: RolloutPart | None) -> ObjectRow:
    return replace(row, spec=replace(spec_of(row), rollout=wish), generation=row.generation + 1)


def promoted(row: ObjectRow, made_of: TemplateSpec = NEW) -> ObjectRow:
    wish = spec_of(row).rollout
    assert wish is not None
    return asked(row, template=made_of, rollout=None, side=wish.side)


def settled(children: Children = BEFORE, **fields: Any) -> ObjectRow:
    row = service(**fields)
    for _ in range(2):
        row = after(row, decide(row, children))
    return row


def rolling_out(children: Children = BOTH, **fields: Any) -> ObjectRow:
    """A canary that the data plane has confirmed."""
    row = begun(settled(), part(**fields))
    for _ in range(3):
        row = after(row, decide(row, children))
    return row


def begun(row: ObjectRow, wish: RolloutPart, children: Children = BEFORE) -> ObjectRow:
    """After the pass that makes its first instances."""
    row = with_part(row, wish)
    return after(row, decide(row, children))


def made(plan: Plan) -> list[CreateChild]:
    return [change for change in plan.children if isinstance(change, CreateChild)]


def deleted(plan: Plan) -> list[str]:
    return [change.uid for change in plan.children if isinstance(change, DeleteChild)]


def woken(plan: Plan) -> list[str]:
    return [change.uid for change in plan.children if isinstance(change, WakeChild)]


def shown(plan: Plan) -> Shown:
    found = status_of(plan).shown
    assert found is not None
    return found


def route_of(row: ObjectRow) -> RouteWant:
    want = next(resource.stored_want for resource in row.resources if resource.key == ROUTE)
    assert isinstance(want, RouteWant)
    return want


def decide_seeing(row: ObjectRow, children: Children, route: Observed) -> Plan:
    answers: dict[Look, Answer] = {}
    for look in DOMAIN.looks(row, NOW):
        if isinstance(look, LookChildren):
            answers[look] = children
        elif isinstance(look, LookResource):
            answers[look] = route if look.key == ROUTE else Present(DirectoryFacts("/x"))
    return DOMAIN.decide(row, Seen(answers), NOW)


# -- the new side ------------------------------------------------------------------------------------------------------


def test_a_new_side_comes_up_beside_the_stable_one_in_a_cluster_of_its_own() -> None:
    row = with_part(settled(), part(replicas=2))
    plan = decide(row, fleet(FULL, highest_slot=2))
    assert [(c.template_digest, c.spec.cluster, c.slot) for c in made(plan)] == [  # type: ignore[union-attr]
        (digest(NEW), f"{BASE}~aaaa", "3"),
        (digest(NEW), f"{BASE}~aaaa", "4"),
    ]
    assert deleted(plan) == []
    row = after(row, plan)
    assert route_of(row).cluster == BASE
    assert route_of(row).split == Split(cluster=f"{BASE}~aaaa", weight=500)
    assert plan.state == "available" and "web-1 at 5 %" in plan.why


def test_a_stable_instance_that_is_missing_is_replaced_in_the_stable_cluster() -> None:
    row = rolling_out()
    plan = decide(row, fleet(group("serving", OLD, range(2)), CANARY, highest_slot=3))
    assert [(c.template_digest, c.spec.cluster) for c in made(plan)] == [(digest(OLD), BASE)]  # type: ignore[union-attr]
    assert status_of(plan).ready == 2 and plan.state == "progressing"


def test_the_new_side_gives_up_what_does_not_serve_first() -> None:
    children = fleet(FULL, group("serving", NEW, range(3, 5)), group("registering", NEW, range(5, 6)), highest_slot=5)
    row = rolling_out(children, replicas=3)
    assert deleted(decide(with_part(row, part(serial=2, replicas=2)), children)) == ["child-5"]
    assert len(deleted(decide(with_part(row, part(serial=2, replicas=0)), children))) == 3


def test_a_new_side_that_does_not_start_backs_off_and_leaves_the_service_available() -> None:
    row = rolling_out()
    broken = fleet(FULL, failed=failures(NEW, 6, newest=NOW), highest_slot=9)
    plan = decide(row, broken)
    assert (made(plan), plan.state) == ([], "available")
    assert shown(plan).failing == "it exited with code 1"
    assert [event.reason for event in plan.events] == ["CrashLoopBackOff"]
    assert plan.wake_at is not None and status_of(plan).last_error == ""
    later = decide(after(row, plan), broken, NOW + 90)
    assert [c.template_digest for c in made(later)] == [digest(NEW)]


def test_a_paused_service_starts_nothing_on_either_side_and_still_lets_the_new_side_go() -> None:
    row = replace(rolling_out(replicas=2), paused=True)
    assert made(decide(row, fleet(group("serving", OLD, range(2)), CANARY))) == []
    assert deleted(decide(with_part(row, part(serial=9, replicas=0)), fleet(FULL, CANARY))) == ["child-3"]


def test_each_side_is_checked_by_its_own_probe() -> None:
    old = replace(OLD, readiness_probe=Probe(http_get=HttpGet("/old", "http")))
    probe = Probe(http_get=HttpGet("/new", "http"))
    new = replace(NEW, readiness_probe=probe)
    serving = group("serving", old, range(3))
    row = with_part(settled(fleet(serving), made_of=old), part(template_digest=digest(new), probe=probe))
    children = fleet(serving, group("serving", new, range(3, 4)))
    row = after(row, decide(row, children))
    split = route_of(row).split
    assert route_of(row).probe == old.readiness_probe and split is not None and split.probe == probe
    row = promoted(row, new)
    row = after(row, decide(row, children))
    assert route_of(row).probe == probe, "the old ones are in another cluster"
    by_hand = with_part(row, part(template_digest=digest(OLDER), probe=Probe(exec=Exec(("true",)))))
    split = route_of(after(by_hand, decide(by_hand, children))).split
    assert split is not None and split.probe is None


def test_a_shared_directory_of_the_new_version_is_there_before_its_instances() -> None:
    key = resource_key(UID, "dir/cache")
    wish = part(directories=(DataDirectory("cache", DirectoryScope.SERVICE, retain=True),))
    row = with_part(settled(), wish)
    thinner = fleet(group("serving", OLD, range(2)), highest_slot=2)
    plan = decide(row, thinner)
    assert [action.key for action in plan.actions if action.key == key] == [key]
    assert [c.template_digest for c in made(plan)] == [digest(OLD)], "the stable side does not wait for it"
    assert "cache" in shown(plan).failing
    row = after(row, plan)
    assert [c.template_digest for c in made(decide(row, thinner, absent=(key,)))] == [digest(OLD)]
    assert digest(NEW) in [c.template_digest for c in made(decide(row, thinner))]
    gone = replace(with_part(row, None), state="terminating", delete_at=NOW)
    rows = {resource.key: resource for resource in decide(gone, fleet()).resources}
    assert rows[key].retained, "it was asked to be kept"


def without_the_keeper(row: ObjectRow, children: Children) -> Plan:
    """The data plane answers; who keeps the directories does not."""
    answers: dict[Look, Answer] = {}
    for look in DOMAIN.looks(row, NOW):
        if isinstance(look, LookChildren):
            answers[look] = children
        elif isinstance(look, LookResource):
            answers[look] = Present(RouteFacts(True, want=route_of(row))) if look.key == ROUTE else Unknown("no keeper")
    return DOMAIN.decide(row, Seen(answers), NOW)


def test_a_rollout_goes_back_also_while_nobody_answers_for_a_shared_directory() -> None:
    shared = replace(OLD, data_directories=(DataDirectory("data", DirectoryScope.SERVICE),))
    stable = group("serving", shared, range(3))
    children = fleet(stable, CANARY, highest_slot=3)
    row = begun(settled(fleet(stable), made_of=shared), part(), fleet(stable))
    for _ in range(3):
        row = after(row, decide(row, children))
    assert status_of(decide(row, children)).shown == Shown(ROLLOUT, 1, 500, 1, 1, 0, "", "", digest(NEW), "aaaa")

    row = with_part(row, part(serial=2, weight=0))
    for _ in range(2):
        plan = without_the_keeper(row, children)
        row = after(row, plan)
    assert (shown(plan).serial, shown(plan).weight, woken(plan)) == (2, 0, [ROLLOUT])
    row = with_part(row, part(serial=3, weight=0, replicas=0))
    plan = without_the_keeper(row, children)
    assert deleted(plan) == ["child-3"] and plan.state == "available"
    row = after(row, plan)
    fewer = fleet(group("serving", shared, range(2)), highest_slot=3)
    for _ in range(3):
        plan = without_the_keeper(row, fewer)
        row = after(row, plan)
        assert made(plan) == [], "nothing is started before what it shares is known to be there"
        assert (shown(plan).alive, status_of(plan).replicas, status_of(plan).ending) == (0, 2, 0)


# -- what the data plane has confirmed ---------------------------------------------------------------------------------


def test_a_weight_is_shown_when_the_data_plane_has_confirmed_it() -> None:
    row = with_part(settled(), part())
    plan = decide(row, BEFORE)
    assert (shown(plan).serial, shown(plan).weight) == (-1, 0)
    assert woken(plan) == [ROLLOUT] and plan.wake_at is not None and plan.wake_at <= NOW + 1
    row = after(row, plan)
    children = fleet(FULL, CANARY, highest_slot=3)
    asked_for = decide_seeing(row, children, Present(RouteFacts(False, want=route_of(row))))
    assert (shown(asked_for).serial, shown(asked_for).ready) == (-1, 1) and asked_for.wake_at is not None
    plan = decide(row, children)
    assert (shown(plan).serial, shown(plan).weight, shown(plan).why) == (1, 500, "")
    assert woken(plan) == [ROLLOUT] and status_of(plan).observed_generation == row.generation
    row = after(row, plan)
    plan = decide(row, children)
    assert (plan.children, plan.wake_at) == ((), None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Present(RouteFacts(False, rejected="no such thing")), "no such thing"),
        (Unknown("no Envoy"), "no Envoy"),
        (Absent(), "does not have"),
        (Present(RouteFacts(True)), "not confirmed"),
    ],
)
def test_what_was_shown_stays_and_the_data_planes_words_are_passed_on(answer: Observed, words: str) -> None:
    children = fleet(FULL, CANARY, highest_slot=3)
    row = with_part(rolling_out(), part(serial=2, weight=0))
    row = after(row, decide(row, children))
    plan = decide_seeing(row, children, answer)
    assert (shown(plan).serial, shown(plan).weight) == (1, 500)
    assert words in shown(plan).why and plan.wake_at is not None and plan.wake_at <= NOW + 1


def test_back_at_0_is_shown_whatever_else_speaks_against_the_route() -> None:
    children = fleet(FULL, CANARY, highest_slot=3)
    row = with_part(rolling_out(), part(serial=2, weight=0))
    row = after(row, decide(row, children))
    refused = RouteFacts(False, "host a belongs to another", route_of(row), is_shared=True)
    assert (shown(decide_seeing(row, children, Present(refused))).serial) == 2
    row = with_part(rolling_out(), part(serial=3, weight=600))
    row = after(row, decide(row, children))
    refused = RouteFacts(False, "host a belongs to another", route_of(row), is_shared=True)
    assert "belongs to another" in shown(decide_seeing(row, children, Present(refused))).why


def test_an_older_confirmation_of_the_same_weight_does_not_count_while_another_wish_is_in_the_ledger() -> None:
    """0 was confirmed once; the ledger says 500 already; back to 0 is shown only after it was asked for anew."""
    children = fleet(FULL, CANARY, highest_slot=3)
    row = rolling_out()
    zero = RouteWant(**{**msgspec.structs.asdict(route_of(row)), "split": Split(cluster=f"{BASE}~aaaa")})
    plan = decide_seeing(with_part(row, part(serial=2, weight=0)), children, Present(RouteFacts(True, want=zero)))
    assert shown(plan).serial == 1


def test_a_weight_of_0_is_shown_also_when_the_new_side_has_nothing_left() -> None:
    row = with_part(rolling_out(), part(serial=5, weight=0, replicas=0))
    going = fleet(FULL, group("draining", NEW, range(3, 4), deleting=True), highest_slot=3)
    row = after(row, decide(row, going))
    plan = decide(row, going)
    assert (shown(plan).serial, shown(plan).alive, shown(plan).ending) == (5, 0, 1)
    plan = decide(after(row, plan), fleet(FULL, highest_slot=3))
    assert (shown(plan).weight, shown(plan).alive, shown(plan).ending) == (0, 0, 0)
    assert woken(plan) == [ROLLOUT]


def test_a_rollout_to_what_the_service_went_back_to_by_itself_touches_nothing() -> None:
    status = ServiceStatus(since=NOW - 600, target=digest(OLD), good=digest(NEW), given_up=digest(OLD))
    serving = fleet(group("serving", NEW, range(3)), highest_slot=2)
    row = with_part(settled(serving, status=status), part(replicas=1))
    plan = decide(row, serving)
    assert plan.children == (WakeChild(ROLLOUT),) and route_of(after(row, plan)).split is None
    assert "went back to it" in shown(plan).why
    row = with_part(after(row, plan), part(serial=2, weight=0, replicas=0))
    plan = decide(row, serving)
    assert shown(plan).serial == 2 and deleted(plan) == []
    plan = decide(with_part(after(row, plan), None), serving)
    assert deleted(plan) == [] and status_of(plan).shown is None


# -- its end -----------------------------------------------------------------------------------------------------------


def test_a_promotion_keeps_the_new_instances_and_lets_the_old_ones_go_as_a_roll_does() -> None:
    new = group("serving", NEW, range(3, 6))
    row = rolling_out(fleet(FULL, new, highest_slot=5), replicas=3, weight=10_000)
    row = promoted(row)
    plan = decide(row, fleet(FULL, new, highest_slot=5))
    assert made(plan) == [] and set(deleted(plan)) == {"child-0", "child-1", "child-2"}
    assert woken(plan) == [ROLLOUT] and status_of(plan).shown is None and status_of(plan).good == digest(NEW)
    row = after(row, plan)
    assert (route_of(row).cluster, route_of(row).split) == (f"{BASE}~aaaa", None)
    draining = fleet(group("draining", OLD, range(3), deleting=True), new, highest_slot=5)
    plan = decide(row, draining)
    assert (plan.children, plan.state, status_of(plan).ending) == ((), "available", 3)


def test_another_wish_right_after_a_promotion_does_not_take_what_requests_go_to() -> None:
    """Back to the template of before, which still has instances: on the side that gets no requests any more."""
    both = fleet(FULL, group("serving", NEW, range(3, 6)), highest_slot=5)
    row = promoted(rolling_out(both, replicas=3, weight=10_000))
    plan = decide(asked(row, template=OLD), both)
    assert set(deleted(plan)) == {"child-0", "child-1", "child-2"}
    assert status_of(plan).ready == 3


def test_old_instances_stay_after_a_promotion_until_enough_new_ones_are_in_traffic() -> None:
    new = (group("serving", NEW, range(3, 4)), group("registering", NEW, range(4, 6)))
    row = promoted(rolling_out(fleet(FULL, *new, highest_slot=5), replicas=3))
    assert len(deleted(decide(row, fleet(FULL, *new, highest_slot=5)))) == 1


def test_a_promoted_version_is_not_given_up_for_the_one_before() -> None:
    row = promoted(rolling_out(fleet(FULL, highest_slot=5), replicas=3))
    row = after(row, decide(row, fleet(FULL, highest_slot=5)))
    broken = fleet(FULL, failed=failures(NEW, 12, newest=NOW + 200), highest_slot=20)
    plan = decide(row, broken, NOW + 300)
    assert status_of(plan).given_up == "" and {c.template_digest for c in made(plan)} <= {digest(NEW)}


def test_a_roll_is_not_given_up_for_what_a_rollout_is_just_bringing() -> None:
    row = asked(settled(), template=NEW)
    row = begun(row, part(template_digest=digest(OLD)), fleet(FULL, highest_slot=2))
    beside = fleet(FULL, group("serving", OLD, range(4, 5)), failed=failures(NEW, 6, newest=NOW + 200), highest_slot=9)
    plan = decide(row, beside, NOW + 300)
    assert (status_of(plan).given_up, deleted(plan), shown(plan).alive) == ("", [], 1)


def test_an_older_template_asked_for_again_is_made_anew_where_requests_go() -> None:
    """Instances of the template before the promotion are in a cluster that no request is sent to."""
    new = group("serving", NEW, range(3, 6))
    row = promoted(rolling_out(fleet(FULL, new, highest_slot=5), replicas=3))
    row = asked(row, template=OLD)  # no pass saw the promotion
    plan = decide(row, fleet(FULL, new, highest_slot=5))
    assert "child-3" not in deleted(plan) and deleted(plan), "only those without traffic go"
    left = group("serving", OLD, range(2, 3))
    plan = decide(after(row, plan), fleet(left, new, highest_slot=5))
    assert deleted(plan) == ["child-2"]
    plan = decide(after(row, plan), fleet(new, highest_slot=5))
    assert [(c.template_digest, c.spec.cluster) for c in made(plan)] == [(digest(OLD), f"{BASE}~aaaa")]  # type: ignore[union-attr]


def test_what_a_given_up_rollout_made_goes_at_once_and_the_split_with_it() -> None:
    row = with_part(rolling_out(), None)
    children = fleet(FULL, CANARY, highest_slot=3)
    plan = decide(row, children)
    assert deleted(plan) == ["child-3"] and woken(plan) == [ROLLOUT]
    row = after(row, plan)
    assert route_of(row).split is None and status_of(plan).replicas == 3
    again = with_part(row, part(rollout_uid="another", side="bbbb", serial=1))
    plan = decide(again, children)
    assert [c.spec.cluster for c in made(plan)] == [f"{BASE}~bbbb"]  # type: ignore[union-attr]
    assert deleted(plan) == ["child-3"] and shown(plan).alive == 0


def test_a_given_up_version_that_is_rolled_plainly_is_made_anew() -> None:
    row = asked(with_part(rolling_out(), None), template=NEW)
    plan = decide(row, fleet(FULL, CANARY, highest_slot=3))
    assert [c.spec.cluster for c in made(plan)] == [BASE] and deleted(plan) == ["child-3"]  # type: ignore[union-attr]


def test_a_rollout_back_to_what_is_just_being_replaced_makes_its_own_instances() -> None:
    """Begun in the middle of a roll: the old ones are in the Service's cluster, and go as the roll wishes."""
    row = asked(settled(), template=NEW)
    rolling = fleet(FULL, group("pending", NEW, range(3, 4)), highest_slot=3)
    row = after(row, decide(row, rolling))
    row = with_part(row, part(template_digest=digest(OLD)))
    plan = decide(row, rolling)
    assert [(c.template_digest, c.spec.cluster) for c in made(plan)] == [(digest(OLD), f"{BASE}~aaaa")]  # type: ignore[union-attr]
    assert (deleted(plan), shown(plan).alive) == ([], 0)
    row = with_part(after(row, plan), None)
    later = fleet(
        group("serving", OLD, range(3)), group("registering", OLD, range(4, 5)), *rolling.groups[1:], highest_slot=4
    )
    assert deleted(decide(row, later)) == ["child-4"]


def test_a_deleted_service_deletes_both_sides_and_tells_its_rollout() -> None:
    row = replace(rolling_out(), delete_at=NOW)
    children = fleet(FULL, CANARY, highest_slot=3)
    plan = decide(row, children)
    assert plan.state == "terminating" and woken(plan) == [ROLLOUT]
    plan = decide(after(row, plan), children)
    assert set(deleted(plan)) == {"child-0", "child-1", "child-2", "child-3"} and status_of(plan).shown is None


# -- upgrades ----------------------------------------------------------------------------------------------------------


def test_a_service_of_0_1_0_goes_on_without_a_change() -> None:
    spec = msgspec.json.decode(
        b'{"owner":"","replicas":3,"template_digest":"' + digest(OLD).encode() + b'","template_ref":"",'
        b'"external":null,"route":{"hosts":["web.test"],"path_prefix":"/","port":"","timeout_seconds":0.0,'
        b'"http2":false},"update":{"max_surge":1,"max_unavailable":0,"progress_deadline_seconds":120.0},'
        b'"depends_on":[],"ttl_seconds":null,"restarted_at":0.0}',
        type=ServiceSpec,
    )
    status = '{"since":999400.0,"observed_generation":1,"replicas":3,"ready":3,"updated":3,"target":"OLD","good":"OLD",'
    status += '"spawned":3,"progressed_at":1000000.0,"best_updated_ready":3,"wiring":"BASE ","probes":{"OLD":null}}'
    status = status.replace("OLD", digest(OLD)).replace("BASE", BASE)
    stored = b'{"type":"route","cluster":"' + BASE.encode() + b'","hosts":["web.test"],"service":"default/web"}'
    ledger = settled().resources[0]
    row = replace(
        service(),
        spec=spec,
        status=status.encode(),
        resources=(replace(ledger, stored_want=msgspec.json.decode(stored, type=RouteWant)),),
    )
    plan = decide(row, fleet(FULL, highest_slot=2))
    assert (plan.actions, plan.children, plan.resources, plan.events) == ((), (), (), ())
    assert plan.state == "available" and status_of(plan).first_slot == 0 and status_of(plan).cuts == {}


# -- properties --------------------------------------------------------------------------------------------------------

often = settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
STATES = ("pending", "bootstrapping", "registering", "ready", "serving", "draining", "failed", "terminating")
STABLE_FIELDS = ("replicas", "ready", "updated", "starting", "ending", "target", "good", "given_up", "last_error")


@st.composite
def crews(draw: st.DrawFn, made_of: TemplateSpec, first: int) -> tuple[ChildGroup, ...]:
    out: dict[tuple[str, bool], ChildGroup] = {}
    for state in draw(st.lists(st.sampled_from(STATES), max_size=4)):
        number, deleting = draw(st.integers(1, 3)), draw(st.booleans())
        out[(state, deleting)] = group(state, made_of, range(first, first + number), deleting=deleting)
        first += number
    return tuple(out.values())


def failing(made_of: TemplateSpec) -> st.SearchStrategy[tuple[ChildFailure, ...]]:
    return st.integers(0, 8).map(lambda count: failures(made_of, count, newest=NOW - 0.5))


@st.composite
def meetings(draw: st.DrawFn) -> tuple[ObjectRow, Children, Children]:
    """A Service with a Rollout; all its children; and those that it would have without the Rollout."""
    status = ServiceStatus(
        since=NOW - 600,
        target=draw(st.sampled_from((digest(OLD), digest(OLDER)))),
        good=draw(st.sampled_from(("", digest(OLD), digest(OLDER)))),
        given_up=draw(st.sampled_from(("", digest(OLD)))),
        progressed_at=NOW - draw(st.sampled_from((1.0, 300.0))),
        shown=Shown(rollout_uid=ROLLOUT, template_digest=digest(NEW), side="aaaa"),
    )
    row = service(status=status, state=draw(st.sampled_from(("progressing", "available", "degraded"))))
    row = replace(
        row,
        paused=draw(st.booleans()),
        spec=replace(
            spec_of(row),
            replicas=draw(st.integers(0, 5)),
            update=RollingUpdate(*draw(st.sampled_from(((1, 0), (0, 1), (2, 1)))), 20.0),
            route=draw(st.sampled_from((None, Route(("web.test",))))),
            rollout=part(replicas=draw(st.integers(0, 4)), weight=draw(st.sampled_from((0, 500, 10_000)))),
        ),
    )
    stable = (*draw(crews(OLD, 0)), *draw(crews(OLDER, 20)))
    mine = draw(failing(OLD))
    both = fleet(*stable, *draw(crews(NEW, 40)), failed=(*mine, *draw(failing(NEW))))
    return row, both, fleet(*stable, failed=mine)


@often
@given(met=meetings())
def test_the_stable_side_does_what_it_would_do_without_a_rollout(met: tuple[ObjectRow, Children, Children]) -> None:
    row, both, alone = met
    with_it, without = decide(row, both), decide(with_part(row, None), alone)
    new = {child.uid for g in both.groups if g.template_digest == digest(NEW) for child in g.oldest}
    assert [u for u in deleted(with_it) if u not in new] == deleted(without)
    stable = [c for c in made(with_it) if c.template_digest != digest(NEW)]
    assert [(c.slot, c.template_digest) for c in stable] == [(c.slot, c.template_digest) for c in made(without)]
    for name in STABLE_FIELDS:
        assert getattr(status_of(with_it), name) == getattr(status_of(without), name), name
    assert (with_it.state, with_it.reason) == (without.state, without.reason)


@often
@given(met=meetings())
def test_the_new_side_is_never_more_than_its_part_says(met: tuple[ObjectRow, Children, Children]) -> None:
    row, both, _ = met
    plan = decide(row, both)
    wish = spec_of(row).rollout
    assert wish is not None
    alive = {
        c.uid
        for g in both.groups
        if g.template_digest == digest(NEW) and g.state in ALIVE and not g.deleting
        for c in g.oldest
    }
    new = [c for c in made(plan) if c.template_digest == digest(NEW)]
    assert len(alive - set(deleted(plan))) + len(new) <= wish.replicas
    assert not (new and alive & set(deleted(plan)))
    slots = [c.slot for c in made(plan)]
    assert len(slots) == len(set(slots)) and all(int(slot) > 99 for slot in slots)


@often
@given(met=meetings(), later=st.sampled_from((0.0, 30.0, 500.0)))
def test_after_a_promotion_no_instance_of_the_new_version_is_taken_within_the_number(
    met: tuple[ObjectRow, Children, Children], later: float
) -> None:
    row, both, _ = met
    number = sum(g.count for g in both.groups if g.template_digest == digest(NEW))
    row = asked(promoted(after(row, decide(row, both))), template=NEW, replicas=max(number, 1))
    for moment in (NOW, NOW + 0.1, NOW + later):
        plan = decide(row, both, moment)
        new = {c.uid for g in both.groups if g.template_digest == digest(NEW) for c in g.oldest}
        assert not new & set(deleted(plan))
        row = after(row, plan)


@often
@given(met=meetings())
def test_what_is_decided_once_is_not_decided_again(met: tuple[ObjectRow, Children, Children]) -> None:
    row, both, _ = met
    row = replace(row, paused=True)
    for _ in range(3):
        row = after(row, decide(row, both))
    plan = decide(row, both)
    wasted = [c for c in plan.children if not isinstance(c, DeleteChild)]
    assert (plan.actions, plan.resources, plan.events, wasted, plan.status) == ((), (), (), [], row.status)


# -- a small world -----------------------------------------------------------------------------------------------------


@dataclass
class Child:
    slot: int
    digest: str
    cluster: str
    state: str = "pending"
    deleting: bool = False


@dataclass
class World:
    """Children live as the plans say, the data plane confirms when it is told to. `listed`: as many of a group are
    named."""

    row: ObjectRow = field(default_factory=service)
    children: list[Child] = field(default_factory=list)
    told: RouteWant | None = None
    acknowledged: bool = False
    listed: int = 3
    serial: int = 0
    rollouts: int = 0
    highest: int = -1

    def look(self) -> Children:
        kinds: dict[tuple[str, str, bool], list[Child]] = {}
        for child in self.children:
            kinds.setdefault((child.state, child.digest, child.deleting), []).append(child)
        groups = []
        for (state, made_of, deleting), members in kinds.items():
            oldest = tuple(
                ChildBrief(Uid(str(c.slot)), str(c.slot), state, made_of, deleting, float(c.slot))  # type: ignore[arg-type]
                for c in members[: self.listed]
            )
            groups.append(ChildGroup(state, made_of, deleting, len(members), oldest))  # type: ignore[arg-type]
        return Children(tuple(groups), highest_slot=self.highest)

    def route(self) -> Observed:
        return Absent() if self.told is None else Present(RouteFacts(self.acknowledged, want=self.told))

    def decide(self) -> Plan:
        answers: dict[Look, Answer] = {}
        for look in DOMAIN.looks(self.row, NOW):
            if isinstance(look, LookChildren):
                answers[look] = self.look()
            elif isinstance(look, LookResource):
                answers[look] = self.route()
        return DOMAIN.decide(self.row, Seen(answers), NOW)

    def step(self) -> Plan:
        plan = self.decide()
        self.check(plan)
        self.row = after(self.row, plan)
        gone = set(deleted(plan))
        for child in self.children:
            child.deleting = child.deleting or str(child.slot) in gone
        for change in made(plan):
            self.highest = int(change.slot)
            self.children.append(Child(int(change.slot), change.template_digest, change.spec.cluster))  # type: ignore[union-attr]
        for action in plan.actions:
            if action.key == ROUTE and action.want != self.told:  # type: ignore[union-attr]
                self.told, self.acknowledged = action.want, False  # type: ignore[union-attr,assignment]
        return plan

    def check(self, plan: Plan) -> None:
        spec, status = spec_of(self.row), status_of(plan)
        wish = spec.rollout
        alive = [c for c in self.children if c.state in ALIVE and not c.deleting and str(c.slot) not in deleted(plan)]
        if wish is not None:
            mine = [c for c in alive if c.cluster.endswith(f"~{wish.side}")]
            new = [c for c in made(plan) if c.spec.cluster.endswith(f"~{wish.side}")]  # type: ignore[union-attr]
            assert not new or len(mine) + len(new) <= wish.replicas
            if status.shown is not None and status.shown.serial == wish.serial and not status.shown.why:
                assert self.acknowledged and self.told is not None and self.told.split is not None
                assert self.told.split.weight == wish.weight
        main = BASE + (f"~{spec.side}" if spec.side else "")
        stable = [c for c in self.children if c.cluster == main and c.state == "serving" and not c.deleting]
        if all(c.digest == spec.template_digest for c in stable) and len(stable) <= spec.replicas:
            assert not {str(c.slot) for c in stable} & set(deleted(plan)), "nothing is wrong with them"

    def pass_time(self) -> None:
        """Every instance gets on by one state; what is to go, goes."""
        self.children = [c for c in self.children if not c.deleting]
        for child in self.children:
            child.state = {"pending": "registering"}.get(child.state, "serving")
        self.acknowledged = True

    def part(self, **fields: Any) -> None:
        self.serial += 1
        before = spec_of(self.row).rollout
        if before is None:
            self.rollouts += 1
            made_of = NEW if spec_of(self.row).template_digest != digest(NEW) else OLD
            uid, side = f"rollout-{self.rollouts}", f"side{self.rollouts}"
            before = part(rollout_uid=uid, side=side, template_digest=digest(made_of), weight=0)
        self.row = with_part(self.row, replace(before, serial=self.serial, **fields))

    def end(self, promote: bool) -> None:
        wish = spec_of(self.row).rollout
        if wish is None:
            return
        if promote:
            self.row = promoted(self.row, NEW if wish.template_digest == digest(NEW) else OLD)
        else:
            self.row = with_part(self.row, None)


def settle(world: World) -> None:
    for _ in range(40):
        world.step()
        world.pass_time()


moves = st.lists(
    st.one_of(
        st.tuples(st.just("part"), st.integers(0, 5), st.sampled_from((0, 500, 10_000))),
        st.sampled_from((("end", True), ("end", False), ("pass",), ("pass",), ("step",), ("step",), ("plain",))),
        st.tuples(st.just("scale"), st.integers(0, 5)),
        st.tuples(st.just("lose"), st.integers(0, 20)),
    ),
    max_size=25,
)


@settings(max_examples=150, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(moves=moves)
def test_whatever_happens_each_side_ends_as_wished_in_its_own_cluster(moves: list[tuple[Any, ...]]) -> None:
    world = World()
    settle(world)
    for move in moves:
        match move:
            case ("part", replicas, weight):
                world.part(replicas=replicas, weight=weight)
            case ("end", promote):
                world.end(promote)
            case ("pass",):
                world.step()
                world.pass_time()
            case ("step",):
                world.step()
            case ("scale", number):
                world.row = asked(world.row, replicas=number)
            case ("plain",) if spec_of(world.row).rollout is None:
                other = NEW if spec_of(world.row).template_digest != digest(NEW) else OLD
                world.row = asked(world.row, template=other)
            case ("lose", slot):
                world.children = [c for c in world.children if c.slot != slot]
    settle(world)
    spec = spec_of(world.row)
    wish = spec.rollout
    expected = [(spec.template_digest, BASE + (f"~{spec.side}" if spec.side else ""))] * spec.replicas
    if wish is not None:
        expected += [(wish.template_digest, f"{BASE}~{wish.side}")] * wish.replicas
    assert sorted((c.digest, c.cluster) for c in world.children) == sorted(expected)
    plan = world.decide()
    assert (plan.state, plan.actions, plan.children, plan.resources) == ("available", (), (), ())
    assert plan.status == world.row.status
    if wish is not None:
        found = shown(plan)
        assert (found.serial, found.weight, found.ready, found.why) == (wish.serial, wish.weight, wish.replicas, "")
