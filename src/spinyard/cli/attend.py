"""Staying with objects until they are where they were sent, or gone. Ctrl-C leaves; it never cancels."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from spinyard.cli.columns import why
from spinyard.cli.exits import Exit, Failed, WaitedTooLong
from spinyard.cli.manifests import Named
from spinyard.cli.output import dig, reference, state_of
from spinyard.cli.progress import Group, Progress, Scene, poll, progress
from spinyard.cli.verdict import Verdict, verdict
from spinyard.client import Client
from spinyard.errors import NotFound

Json = dict[str, Any]


@dataclass(slots=True)
class Outcome:
    """`late`: not decided when the time was over."""

    done: list[Json] = field(default_factory=list)
    failed: list[Json] = field(default_factory=list)
    late: list[Json] = field(default_factory=list)


def until_available(client: Client, items: Sequence[Json], *, timeout_seconds: float | None, quiet: bool) -> Outcome:
    """`items` as the server answered when they were applied."""
    wait = _Arrival(client, {str(item["metadata"]["uid"]): item for item in items})
    with leaving("what was applied goes on", _delete_command(items)), progress(quiet=quiet) as shown:
        poll(lambda: wait.step(shown), timeout_seconds=timeout_seconds)
    return wait.outcome()


def until_gone(client: Client, names: Sequence[Named], *, timeout_seconds: float | None, quiet: bool) -> list[Named]:
    """Those that are still there when the time is over."""
    left = list(names)

    def step(shown: Progress) -> bool:
        groups = []
        for name in list(left):
            try:
                item = client.get(name.kind, name.namespace, name.name)
            except NotFound:
                left.remove(name)
                continue
            if dig(item, "status", "finishedAt"):
                left.remove(name)
                continue
            groups.append(Group(item, spins_of(client, item)))
        gone = len(names) - len(left)
        shown.show(Scene("deleting", groups, f"{gone} of {len(names)} gone"))
        return not left

    with leaving("the deletion goes on", ""), progress(quiet=quiet) as shown:
        poll(lambda: step(shown), timeout_seconds=timeout_seconds)
    return left


def raise_if_not(outcome: Outcome, timeout: str) -> None:
    if outcome.failed:
        item = outcome.failed[0]
        raise Failed(
            f"{item['kind']} {item['metadata']['name']} failed: {why(item) or 'no reason given'}",
            next_step=explain_command(item),
        )
    if outcome.late:
        item = outcome.late[0]
        raise WaitedTooLong(
            f"{item['kind']} {item['metadata']['name']} was not available within {timeout}; it goes on trying"
            + (f" ({why(item)})" if why(item) else ""),
            next_step=explain_command(item),
        )


def explain_command(item: Json) -> str:
    meta = item["metadata"]
    return f"spinyard explain {item['kind'].lower()} {meta['name']} -n {meta['namespace']}"


def _delete_command(items: Sequence[Json]) -> str:
    names = " ".join(reference(item) for item in items[:5])
    namespace = str(dig(items[0], "metadata", "namespace") or "default") if items else "default"
    return f"spinyard delete {names}{' …' if len(items) > 5 else ''} -n {namespace}"


class leaving:
    """Turns Ctrl-C into two sentences: what goes on, and which command comes next."""

    def __init__(self, goes_on: str, command: str) -> None:
        self._goes_on = goes_on
        self._command = command

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is KeyboardInterrupt:
            print(
                f"\nspinyard: you left, {self._goes_on}.\n"
                + "  look:  spinyard get all"
                + (f"\n  stop:  {self._command}" if self._command else ""),
                file=sys.stderr,
            )
            raise SystemExit(int(Exit.INCONCLUSIVE))


def spins_of(client: Client, item: Json) -> list[Json]:
    if item.get("kind") not in ("Service", "Job", "WarmPool", "Claim"):
        return []
    spins = client.list("Spin", item["metadata"]["namespace"], owner=item["metadata"]["uid"])["items"]
    return [spin for spin in spins if state_of(spin) != "terminated"]


class _Arrival:
    def __init__(self, client: Client, items: dict[str, Json]) -> None:
        self._client = client
        self._items = items
        self._verdicts = dict.fromkeys(items, Verdict.WAITING)

    def step(self, shown: Progress) -> bool:
        groups = []
        for uid, item in self._items.items():
            if self._verdicts[uid] is Verdict.WAITING:
                item = self._items[uid] = self._look(item)
                self._verdicts[uid] = verdict(item)
            decided = self._verdicts[uid]
            word = {Verdict.DONE: _done_word(item), Verdict.FAILED: _failed_word(item)}.get(decided, "")
            groups.append(
                Group(item, spins_of(self._client, item) if item["kind"] in ("Service", "WarmPool") else (), word)
            )
        waiting = sum(one is Verdict.WAITING for one in self._verdicts.values())
        shown.show(Scene("waiting" if waiting else "ready", groups))
        return not waiting

    def outcome(self) -> Outcome:
        out = Outcome()
        lists = {Verdict.DONE: out.done, Verdict.FAILED: out.failed, Verdict.WAITING: out.late}
        for uid, item in self._items.items():
            lists[self._verdicts[uid]].append(item)
        return out

    def _look(self, item: Json) -> Json:
        meta = item["metadata"]
        try:
            found = self._client.get(item["kind"], meta["namespace"], meta["name"], finished=True)
        except NotFound:
            return {**item, "status": {"state": "failed", "reason": "Deleted", "message": "it was deleted"}}
        return found if found["metadata"]["uid"] == meta["uid"] else item


def _done_word(item: Json) -> str:
    words = {
        "Job": "succeeded",
        "Rollout": "succeeded",
        "Template": "stored",
        "Spinout": "stored",
        "WarmPool": "warm",
        "Claim": "ready",
    }
    return words.get(str(item["kind"]), "available")


def _failed_word(item: Json) -> str:
    return state_of(item) if item["kind"] == "Rollout" else "failed"
