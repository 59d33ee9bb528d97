"""`spinyard wait`: until a condition, a state, or the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from cyclopts import Parameter

from spinyard.cli.attend import leaving, until_gone
from spinyard.cli.exits import Exit, Failed, Usage, WaitedTooLong
from spinyard.cli.kinds import target
from spinyard.cli.manifests import Named
from spinyard.cli.options import COMMON, SCOPE, Common, Scope, Timeout
from spinyard.cli.output import list_of, print_data, state_of
from spinyard.cli.progress import Group, Progress, Scene, poll, progress
from spinyard.cli.verdict import Verdict, has_condition, verdict
from spinyard.cli.words import seconds_of
from spinyard.client import Client

Json = dict[str, Any]
Check = Callable[[Json], bool]


def wait(
    *words: Annotated[str, Parameter(name="KIND-NAME", help="KIND NAME ..., or KIND/NAME ...")],
    for_: Annotated[str, Parameter(name="--for", help="condition=NAME[=False], state=NAME, available, or delete.")],
    timeout: Timeout = "5m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Wait until every named object is so. Ctrl-C stops the waiting, never the work."""
    seconds = seconds_of(timeout)
    targets = [Named(kind, scope.namespace, name) for kind, name in target(words)]
    client = common.client()
    if for_ == "delete":
        late = until_gone(client, targets, timeout_seconds=seconds, quiet=common.is_data)
    else:
        late = _until(client, targets, check_of(for_), for_, seconds, common)
    if late:
        name = late[0]
        raise WaitedTooLong(
            f"{name.kind} {name.name} was not {for_} within {timeout}",
            next_step=f"spinyard explain {name.kind.lower()} {name.name} -n {name.namespace}",
        )
    return Exit.OK


def check_of(words: str) -> Check:
    what, _, rest = words.partition("=")
    if what == "available" and not rest:
        return lambda item: verdict(item) is Verdict.DONE
    if what == "state" and rest:
        return lambda item: state_of(item).lower() == rest.lower()
    if what == "condition" and rest:
        name, _, status = rest.partition("=")
        return lambda item: has_condition(item, name, status or "True")
    raise Usage(f"--for {words!r} is not understood", next_step="condition=Ready, state=serving, available, or delete")


def _until(
    client: Client, targets: list[Named], check: Check, words: str, seconds: float, common: Common
) -> list[Named]:
    left = list(targets)
    met: list[Json] = []

    def step(shown: Progress) -> bool:
        groups = []
        for name in list(left):
            item = client.get(name.kind, name.namespace, name.name, finished=True)
            if check(item):
                left.remove(name)
                met.append(item)
            elif name.kind == "Job" and verdict(item) is Verdict.FAILED:
                raise Failed(
                    f"Job {name.name} failed, it will not come to {words}", next_step=f"spinyard logs {name.name}"
                )
            elif name.kind == "Rollout" and verdict(item) is not Verdict.WAITING:
                raise Failed(
                    f"Rollout {name.name} is {state_of(item)}, it will not come to {words}",
                    next_step=f"spinyard explain rollout {name.name} -n {name.namespace}",
                )
            elif name.kind == "Spinout" and state_of(item) in ("completed", "rolled_back", "abandoned"):
                raise Failed(
                    f"Spinout {name.name} is {state_of(item)}, it will not come to {words}",
                    next_step=f"spinyard spinout explain {name.name} -n {name.namespace}",
                )
            else:
                groups.append(Group(item))
        shown.show(Scene(f"waiting for {words}", groups))
        return not left

    with leaving("the work goes on", ""), progress(quiet=common.is_data) as shown:
        poll(lambda: step(shown), timeout_seconds=seconds)
    if common.is_data and not left:
        print_data(met[0] if len(met) == 1 else list_of(met), common.output)
    elif not common.is_data:
        for item in met:
            print(f"{item['kind'].lower()}/{item['metadata']['name']} met {words}")
    return left
