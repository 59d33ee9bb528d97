"""`spinyard delete`: ask for the end, and stay until it is proved."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from spinyard.cli.attend import until_gone
from spinyard.cli.commands.get import labels_of
from spinyard.cli.exits import Exit, Usage, WaitedTooLong
from spinyard.cli.kinds import kinds_of, target
from spinyard.cli.manifests import Named, named, read_manifests
from spinyard.cli.options import COMMON, SCOPE, Common, Labels, Scope, Timeout
from spinyard.cli.output import list_of, print_data
from spinyard.cli.words import seconds_of
from spinyard.client import Client
from spinyard.clock import SystemClock
from spinyard.errors import NotFound


def delete(
    *words: Annotated[str, Parameter(name="KIND-NAME", help="KIND NAME ..., or KIND/NAME ...")],
    file: Annotated[tuple[str, ...], Parameter(name=["--file", "-f"], help="Everything these files name.")] = (),
    selector: Labels = (),
    wait: Annotated[bool, Parameter(name="--wait", negative="--no-wait", help="Stay until it is gone.")] = True,
    force: Annotated[
        bool,
        Parameter(
            name="--force", help="Let go of what cannot be removed: it stays listed as leaked, and the sweep goes on."
        ),
    ] = False,
    ignore_not_found: Annotated[
        bool, Parameter(name="--ignore-not-found", help="What is not there is no error.")
    ] = False,
    timeout: Timeout = "10m",
    common: Common = COMMON,
    scope: Scope = SCOPE,
) -> int:
    """Ask for the end of objects. A deletion is accepted in every state and cannot be taken back."""
    seconds = seconds_of(timeout)
    client = common.client()
    names = _wanted(client, words, file, selector, scope)
    asked, missing, answers = [], [], []
    for name in names:
        try:
            key = f"cli-{SystemClock().new_uid()}"
            answers.append(client.delete(name.kind, name.namespace, name.name, force=force, key=key))
            asked.append(name)
        except NotFound as error:
            missing.append(error)
    left = until_gone(client, asked, timeout_seconds=seconds, quiet=common.is_data) if wait and asked else []
    if common.is_data:
        print_data(answers[0] if len(answers) == 1 else list_of(answers), common.output)
    else:
        _report(asked, left, wait)
    if left:
        raise WaitedTooLong(
            f"{len(left)} of {len(asked)} still there after {timeout}; the deletion goes on",
            next_step=f"spinyard explain {left[0].kind.lower()} {left[0].name} -n {left[0].namespace}",
        )
    if missing and not ignore_not_found and not file:
        raise missing[0]
    return Exit.OK


def _wanted(
    client: Client, words: tuple[str, ...], file: Sequence[str], selector: Sequence[str], scope: Scope
) -> list[Named]:
    if file:
        if words:
            raise Usage("either names or files, not both")
        # Dependents first: the reverse of the order in which they stand in the files.
        return [named(item) for item in reversed(read_manifests(file, scope.namespace))]
    labels = labels_of(selector)
    if labels and len(words) == 1:
        found = [(kind, client.list(kind, scope.namespace, labels=labels)["items"]) for kind in kinds_of(words[0])]
        return [Named(kind, scope.namespace, item["metadata"]["name"]) for kind, items in found for item in items]
    return [Named(kind, scope.namespace, name) for kind, name in target(words)]


def _report(asked: Sequence[Named], left: Sequence[Named], waited: bool) -> None:
    for name in asked:
        word = "deletion asked for" if not waited else "still there" if name in left else "gone"
        print(f"{name.kind.lower()}/{name.name} {word}")
    if not asked:
        print("nothing to delete", file=sys.stderr)
