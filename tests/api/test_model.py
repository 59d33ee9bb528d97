"""The API against a small model: whatever is asked in whatever order, the answers are those of the model.

The model knows live objects by name, with replicas, labels, versions, and whether they are being deleted, and which
idempotency keys were used for what. One rule restarts the server over the same store.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spinyard.api.deps import ApiLimits
from spinyard.core.plan import Plan
from spinyard.ports.store import Commit
from tests.api.conftest import Answer, World, running

NAMES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["", "", "k1", "k2"])
REPLICAS = st.integers(0, 3)


@dataclass
class Model:
    replicas: int
    generation: int = 1
    deleting: bool = False


@dataclass
class Used:
    request: tuple[str, str, str]
    name: str


@dataclass
class Expected:
    objects: dict[str, Model] = field(default_factory=dict)
    keys: dict[str, Used] = field(default_factory=dict)


class ApiMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.home = tempfile.TemporaryDirectory(prefix="sy-model-")
        self.model = Expected()
        self.stack = AsyncExitStack()
        self.world: World = self.run(self.start())

    async def start(self) -> World:
        return await self.stack.enter_async_context(running(Path(self.home.name), ApiLimits(poll_seconds=0.05)))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def call(self, method: str, path: str, body: Any = None, key: str = "") -> Answer:
        found: Answer = self.run(self.world.call(method, path, body, Idempotency_Key=key))
        assert found.status < 500, found.text
        return found

    def teardown(self) -> None:
        self.run(self.stack.aclose())
        self.loop.close()
        self.home.cleanup()

    # -- what a person does --------------------------------------------------------------------------------------------

    @rule(name=NAMES, replicas=REPLICAS, key=KEYS)
    def put(self, name: str, replicas: int, key: str) -> None:
        body = {"spec": {"replicas": replicas, "template": {"command": ["true"]}}}
        answer = self.call("PUT", path_of(name), body, key)
        if self.answered_by_key(answer, key, ("PUT", name, str(replicas)), name):
            return
        found = self.model.objects.get(name)
        if found is not None and found.deleting:
            assert answer.code == (409, "being_deleted")
            return
        assert answer.status == (200 if found else 201)
        if found is None:
            self.model.objects[name] = Model(replicas)
        elif found.replicas != replicas:
            found.replicas, found.generation = replicas, found.generation + 1
        self.remember(key, ("PUT", name, str(replicas)), name)

    @rule(name=NAMES, replicas=REPLICAS, key=KEYS)
    def scale(self, name: str, replicas: int, key: str) -> None:
        answer = self.call("POST", f"{path_of(name)}/scale", {"replicas": replicas}, key)
        if self.answered_by_key(answer, key, ("SCALE", name, str(replicas)), name):
            return
        found = self.model.objects.get(name)
        if found is None:
            assert answer.code == (404, "not_found")
            return
        if found.deleting:
            assert answer.code == (409, "being_deleted")
            return
        assert answer.status == 200
        if found.replicas != replicas:
            found.replicas, found.generation = replicas, found.generation + 1
        self.remember(key, ("SCALE", name, str(replicas)), name)

    @rule(name=NAMES, key=KEYS)
    def delete(self, name: str, key: str) -> None:
        answer = self.call("DELETE", path_of(name), None, key)
        if self.answered_by_key(answer, key, ("DELETE", name, ""), name):
            return
        found = self.model.objects.get(name)
        if found is None:
            assert answer.code == (404, "not_found")
            return
        assert answer.status == 202
        found.deleting = True
        self.remember(key, ("DELETE", name, ""), name)

    # -- what happens beside -------------------------------------------------------------------------------------------

    @rule()
    def the_engine_finishes_what_is_being_deleted(self) -> None:
        store, now = self.world.store, self.world.deps.clock.now()
        for row in store.claim(holder="t", now=now, lease_seconds=5.0, limit=100):
            gone = row.delete_at is not None
            plan = Plan("terminated" if gone else "available", b"{}", "driven", "Driven", None, finished=gone)
            store.commit([Commit(row, plan, release=True)], now=now)
            if gone:
                del self.model.objects[row.name]

    @rule()
    def the_server_restarts(self) -> None:
        self.run(self.stack.aclose())
        self.stack = AsyncExitStack()
        self.world = self.run(self.start())

    # -- what must hold ------------------------------------------------------------------------------------------------

    @invariant()
    def the_list_is_the_model(self) -> None:
        listed = self.call("GET", "/v1/services").json["items"]
        shown = {
            i["metadata"]["name"]: Model(
                i["spec"].get("replicas", 1), i["metadata"]["generation"], "deletionTimestamp" in i["metadata"]
            )
            for i in listed
        }
        assert shown == self.model.objects

    def answered_by_key(self, answer: Answer, key: str, request: tuple[str, str, str], name: str) -> bool:
        used = self.model.keys.get(key) if key else None
        if used is None:
            return False
        if used.request != request:
            assert answer.code == (422, "idempotency_key_reused")
        else:
            assert answer.status < 300
            assert answer.json["metadata"]["name"] == name
        return True

    def remember(self, key: str, request: tuple[str, str, str], name: str) -> None:
        if key:
            self.model.keys[key] = Used(request, name)


def path_of(name: str) -> str:
    return f"/v1/namespaces/default/services/{name}"


TestApiAgainstModel = ApiMachine.TestCase
TestApiAgainstModel.settings = settings(
    max_examples=6,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
