"""What must always hold of pools and claims, looked at in the tables and in the pretended world after each change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

import msgspec

from spinyard.core.ids import ResourceKey, owner_of
from spinyard.core.observed import EndpointFacts, Observed, Present, ProbeAnswer, ProbeResult
from spinyard.core.plan import DeleteChild, Plan
from spinyard.core.row import ObjectRow
from spinyard.core.spec import ClaimSpec, JobSpec, Kind, Probe, SpinSpec
from spinyard.core.want import ProcessWant, content_mark
from spinyard.ports.store import Commit, CommitResult, Committed
from spinyard.testing.simulation.parts import MemberFacts
from spinyard.testing.simulation.stage import Stage

HAD = frozenset({"pending", "planned", "provisioning", "bootstrapping", "warm", "registering", "ready", "serving"})


class PoolChecks:
    def __init__(self, sim: Stage) -> None:
        self._sim = sim
        self._members: dict[str, MemberFacts] = {}
        self._hooked: set[str] = set()
        self._acknowledged: dict[str, str] = {}

    # -- told ------------------------------------------------------------------------------------------------------

    def hook_done(self, process: str) -> None:
        self._hooked.add(owner_of(ResourceKey(process)))

    def observed(self, key: str, observed: Observed) -> None:
        match observed:
            case Present(facts=EndpointFacts(acknowledged=True, healthy=True)):
                entry = self._sim.proxy.entries.get(ResourceKey(key))
                if entry is not None:
                    self._acknowledged[owner_of(ResourceKey(key))] = entry.want.host
            case _:
                pass

    def asked(self, claim: str) -> None:
        """A claim was made by the use case."""
        self._look()
        if any(member.owner == claim for member in self._members.values()):
            self._sim.reached("claim-hit")

    def committed(self, batch: Sequence[Commit], results: Sequence[CommitResult]) -> None:
        if not any(_is_about_pools(commit.row) for commit in batch):
            return
        before = self._members
        self._look()
        for commit, result in zip(batch, results, strict=True):
            if isinstance(result, Committed):
                self._one(commit.row, commit.plan, before, batch)

    def _one(self, row: ObjectRow, plan: Plan, before: dict[str, MemberFacts], batch: Sequence[Commit]) -> None:
        match row.spec:
            case SpinSpec(pool_uid=pool) if pool:
                self._member(row, row.spec, plan)
            case ClaimSpec():
                self._claim(row, row.spec, plan)
            case _ if row.kind == Kind.WARM_POOL:
                self._takes_only_its_own(row, plan, before, batch)
            case _:
                pass

    # -- members ---------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Who owns whom now, against a moment ago."""
        now = {member.uid: member for member in self._sim.peek.members()}
        had: Counter[str] = Counter()
        for member in now.values():
            name = f"member {member.uid[:6]} of {member.owner[:6]}"
            claimed = member.owner != member.pool
            before = self._members.get(member.uid)
            if claimed and member.claim != member.owner:
                self._broken("claimed, and what it was given is another claim's", name)
            if not claimed and member.claim:
                self._broken("a claimed member went back to its pool", name)
            if before is not None and before.owner != before.pool and before.owner != member.owner:
                self._broken("a claimed member changed its owner", f"{name}, before of {before.owner[:6]}")
            if before is not None and before.owner == before.pool and claimed:
                self._bound(member, name)
            if claimed and not member.deleting and not member.failed and member.state in HAD:
                had[member.owner] += 1
        for claim, count in had.items():
            if count > 1:
                self._broken("two members for one claim", f"{claim[:6]} has {count}")
        self._members = now

    def _bound(self, member: MemberFacts, name: str) -> None:
        self._sim.reached("bound")
        self._sim.log(f"{name} is bound")
        pool = self._sim.peek.object(member.pool)
        if member.state != "warm" or member.deleting:
            self._broken("bound although not warm", f"{name}: {member.state}, deleting {member.deleting}")
        if pool is not None and not pool.finished and pool.digest != member.digest:
            self._broken("a stale member was bound", name)

    def _member(self, row: ObjectRow, spec: SpinSpec, plan: Plan) -> None:
        scope = f"pool/{spec.pool_uid}"
        if any(reserve.scope == scope for reserve in plan.requires):
            held = self._sim.peek.held(scope)
            if held > self._allowed(row.uid, spec.pool_uid):
                self._broken("more members than the maximum of their pool", f"{row.name}: {held} held")
        if row.state == "warm" and plan.state in ("registering", "ready"):
            self._prepared(row.uid)
        if plan.outcome == "ClaimHookFailed" and row.outcome != plan.outcome:
            self._sim.reached("claim-hook-failed")

    def _allowed(self, uid: str, pool: str) -> int:
        since = self._sim.peek.object(uid)
        made = since.created_at if since is not None else 0.0
        # The clock of the tables may have jumped: then any wish of before counts.
        age = self._sim.clock.now() - made + self._sim.jumped * 2
        return int(self._sim.users.pools.allowed(pool, self._sim.loop_time - age - 1.0))

    def made(self, key: str) -> None:
        """A program of a member came into being."""
        member = self._members.get(owner_of(ResourceKey(key)))
        if member is not None:
            self._sim.users.pools.jobs.made(key, member.owner)
        if member is None or not key.endswith("/process"):
            return
        alive = 0
        for other in self._members.values():
            thing = self._sim.world.things.get(f"{other.uid}/process")
            if other.pool == member.pool and other.uid != member.uid and thing is not None:
                alive += isinstance(thing.want, ProcessWant) and thing.running(self._sim.steady.now())
        if alive + 1 > self._allowed(member.uid, member.pool):
            self._broken("more programs than the maximum of their pool", f"{key}: {alive} others run")

    def _takes_only_its_own(
        self, row: ObjectRow, plan: Plan, before: dict[str, MemberFacts], batch: Sequence[Commit]
    ) -> None:
        for change in plan.children:
            if not isinstance(change, DeleteChild):
                continue
            if change.why.startswith("older than"):
                self._sim.reached("freshness")
            if change.why.startswith("more than the minimum"):
                self._sim.reached("idle-shrink")
            was, now = before.get(change.uid), self._members.get(change.uid)
            if was is None or now is None or was.owner == row.uid or was.deleting or not now.deleting:
                continue
            others = (c.plan.children for c in batch if c.row.uid == was.owner)
            if not any(isinstance(o, DeleteChild) and o.uid == change.uid for children in others for o in children):
                self._broken("the pool took a claimed member away", f"{row.name}: {change.uid[:6]}: {change.why}")

    # -- claims ----------------------------------------------------------------------------------------------------

    def endpoint_asked(self, uid: str) -> None:
        """It is about to be ACTIVE in the data plane."""
        if uid in self._members and self._members[uid].claim:
            self._prepared(uid)

    def _prepared(self, uid: str) -> None:
        """Its files are there with their content, its hook ended well, its program was ready."""
        facts = self._sim.peek.object(uid)
        if facts is None:
            return
        spec = msgspec.json.decode(facts.spec, type=SpinSpec)
        part = spec.claim
        if part is None:
            return self._broken("given out without a claim", f"member {uid[:6]}")
        told = {"claim": part.claim_name, "env": dict(part.env), "host": part.host}
        files = {name: content_mark(content) for name, content in part.files}
        files["claim.json"] = content_mark(json.dumps(told, sort_keys=True, separators=(",", ":")))
        directory = self._sim.world.things.get(f"{uid}/dir/claim")
        if directory is None or any(directory.files.get(name) != mark for name, mark in files.items()):
            self._broken("given out before what the claim brought was in place", f"member {uid[:6]}")
        if part.on_claim is not None and uid not in self._hooked:
            self._broken("given out although its claim hook did not end well", f"member {uid[:6]}")

    def _claim(self, row: ObjectRow, spec: ClaimSpec, plan: Plan) -> None:
        sim = self._sim
        if row.state == "bound" and plan.state == "pending":
            sim.reached("claim-rebound")
        if plan.state == "terminating" and row.state != "terminating" and row.delete_at is None:
            sim.reached("claim-expired")
        if plan.state == "failed" and row.state != "failed":
            sim.reached(f"claim:{plan.outcome}")
            if not plan.outcome or not plan.why:
                self._broken("a claim failed without a reason", row.name)
        if plan.state != "ready" or row.state == "ready":
            return
        status = json.loads(plan.status)
        sim.reached("claim-cold" if status.get("cold") else "claim-warm")
        if status.get("bound_at", 0.0) - row.created_at > 1.0 and spec.wait_seconds:
            sim.reached("claim-waited")
        uid = status.get("member", "")
        member = sim.peek.object(uid)
        proved = spec.host or (member is not None and '"readiness_probe":null' not in sim.peek.template(member.digest))
        if member is None or (proved and not sim.checks.was_ready(uid)):
            self._broken("a claim is ready with a member that never was", row.name)
        if spec.host and self._acknowledged.get(uid) != spec.host:
            heard = self._acknowledged.get(uid)
            self._broken("a claim is ready that the data plane did not acknowledge", f"{row.name}: {heard}")

    def _broken(self, what: str, detail: str) -> None:
        self._sim.broken(what, detail)


def _is_about_pools(row: ObjectRow) -> bool:
    spec = row.spec
    is_part = isinstance(spec, SpinSpec | JobSpec) and spec.pool_uid != ""
    return row.kind in (Kind.WARM_POOL, Kind.CLAIM) or is_part


class HookProber:
    """The prober of one control plane; hooks of claims are told by their command how they end."""

    def __init__(self, sim: Stage) -> None:
        self._sim = sim

    async def check(
        self, process: ResourceKey, address: str, ports: tuple[tuple[str, int], ...], probe: Probe
    ) -> ProbeResult:
        word = probe.exec.command[0] if probe.exec is not None and probe.exec.command else ""
        result = await self._sim.prober.check(process, address, ports, probe)
        if not word.startswith("hook-") or result.answer is not ProbeAnswer.OK:
            return result
        if word == "hook-hangs":
            await self._sim.clock.sleep(probe.timeout_seconds)
        if word != "hook-ok":
            return ProbeResult(ProbeAnswer.FAILED, word)
        self._sim.checks.pools.hook_done(process)
        return result
