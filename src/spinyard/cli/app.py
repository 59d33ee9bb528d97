"""The command line: names of commands and where each is, imported only when it is used."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

from cyclopts import App, CycloptsError, Group, Parameter

from spinyard import errors
from spinyard.cli.exits import Exit, Usage
from spinyard.cli.streams import OutputFailed, guarded
from spinyard.cli.tell import tell, wants_json

_COMMANDS: Final = "spinyard.cli.commands"

# (command, module:function, help, group)
COMMANDS: Final = (
    ("server", "server:server", "Start keeper and server of a home, and stay attached.", "Run"),
    ("up", "up:up", "Apply files and wait until everything is available; starts a server when none runs.", "Run"),
    ("down", "down:down", "Stop server, Envoy and keeper; with --delete all objects first.", "Run"),
    ("plan", "apply:plan", "What an apply would change, and the preflight checks.", "Change"),
    ("diff", "apply:diff", "The differences between files and server; exit code 1 when there are some.", "Change"),
    ("apply", "apply:apply", "Create or change what the files say.", "Change"),
    ("delete", "delete:delete", "Ask for the end of objects, and wait for the proof.", "Change"),
    ("scale", "operate:scale", "Set the number of instances of a service.", "Change"),
    ("restart", "operate:restart", "Replace all instances of a service, one after the other.", "Change"),
    (
        "rollout",
        "rollout:rollout",
        "Steer a service on its way to another version: plan, promote, pause, resume, abort, rollback.",
        "Change",
    ),
    (
        "spinout",
        "spinout:spinout",
        "Carry a responsibility out of a service: plan, start, status, approve, hold, resume, abort, promote, history.",
        "Change",
    ),
    ("contract", "contract:contract", "What a unit takes and answers: extract, diff, verify.", "Change"),
    ("hold", "hold:hold", "Nothing is started by itself: in everything, a namespace, or one parent.", "Change"),
    ("release-hold", "hold:release_hold", "What was held goes on.", "Change"),
    ("get", "get:get", "Show objects.", "Look"),
    ("describe", "describe:describe", "Everything about one object, with its events.", "Look"),
    ("explain", "describe:explain", "Why an object is as it is, who must act, and when it is tried next.", "Look"),
    ("wait", "wait:wait", "Wait for a condition, a state or the end of an object.", "Look"),
    ("logs", "logs:logs", "Output of a spin, or of all spins of a service.", "Look"),
    ("events", "events:events", "What happened, in order.", "Look"),
    ("trace", "trace:trace", "Where a request was, and for how long; `trace ls`: of recent ones.", "Look"),
    ("exec", "operate:execute", "Run a command beside a spin, with its environment.", "Look"),
    ("claim", "claim:claim", "Take an instance of a pool: its address, at once when one is warm.", "Pools"),
    ("renew", "claim:renew", "Keep a claim longer.", "Pools"),
    ("release", "claim:release", "Give a claim up; its instance goes.", "Pools"),
    ("run", "claim:run", "Run one command in an instance of a pool, and give it up.", "Pools"),
    ("doctor", "care:doctor", "Check this machine and this home.", "Care"),
    ("orphans", "care:orphans", "What carries our tag and nobody wants.", "Care"),
    ("gc", "care:gc", "Remove orphans.", "Care"),
    ("backup", "care:backup", "Write a consistent copy of the store.", "Care"),
    ("restore", "care:restore", "Make the store of a home from a backup (server stopped).", "Care"),
    ("install", "install:install", "A systemd unit that keeps the keeper running.", "Care"),
    ("schema", "about:schema", "The JSON Schema of manifests.", "About"),
    ("version", "about:version", "Versions of this program and of the server.", "About"),
)

_GROUPS: Final = ("Run", "Change", "Look", "Pools", "Care", "About")
_HIDDEN: Final = (("server-process", "server:server_process"),)


def make_app() -> App:
    app = App(
        name="spinyard",
        help="Services that come and go, with proof that nothing is left.",
        help_epilogue="Exit codes: 0 ok, 1 failed, 2 usage, 3 inconclusive, 4 error, 5 timeout, 6 denied, 7 not found,"
        " 8 conflict. More: docs/cli.md",
        version_flags=[],
        default_parameter=Parameter(negative=""),
        print_error=False,
        exit_on_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    groups = {name: Group(name, sort_key=n) for n, name in enumerate(_GROUPS)}
    for n, (name, place, help_text, group) in enumerate(COMMANDS):
        app.command(f"{_COMMANDS}.{place}", name=name, help=help_text, group=groups[group], sort_key=n)
    app["--help"].group = (groups["About"],)
    for name, place in _HIDDEN:
        app.command(f"{_COMMANDS}.{place}", name=name, show=False)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code; see exits.Exit."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if _is_help(words):
            return _run(words)
        with guarded():
            code = _run(words)
            sys.stdout.flush()
            return code
    except BrokenPipeError:
        # `spinyard get … | head`: the reader has enough. Nothing may be written at exit either.
        sys.stdout = None
        return Exit.OK
    except (OutputFailed, OSError) as failed:
        sys.stdout = None
        error = failed if isinstance(failed, OutputFailed) else OutputFailed(str(failed))
        with contextlib.suppress(OSError):
            tell(error, as_json=False)
        return Exit.ERROR


def _run(words: Sequence[str]) -> int:
    try:
        result = make_app()(words or ["--help"])
    except CycloptsError as error:
        return tell(_usage(error), as_json=wants_json(words))
    except OutputFailed:
        raise
    except errors.SpinyardError as error:
        return tell(error, as_json=wants_json(words))
    except UnicodeEncodeError:
        return tell(
            Usage("the command line has bytes that are not UTF-8 text", next_step="use names in UTF-8"),
            as_json=wants_json(words),
        )
    except KeyboardInterrupt:
        if _is_stream(words):
            return Exit.OK
        print("spinyard: interrupted; what the server was asked to do goes on", file=sys.stderr)
        return Exit.INCONCLUSIVE
    return result if isinstance(result, int) else Exit.OK


def _is_help(words: Sequence[str]) -> bool:
    """Help is ours from first to last, in colours of its own."""
    own = words[: words.index("--")] if "--" in words else words
    return not words or bool({"--help", "-h"} & set(own))


def _is_stream(words: Sequence[str]) -> bool:
    """Something that goes on until it is ended by Ctrl-C, which then is no interruption."""
    is_one = words[0] in ("get", "logs", "events") or list(words[:2]) == ["spinout", "status"]
    return is_one and bool({"-f", "--follow", "-w", "--watch"} & set(words))


def _usage(error: CycloptsError) -> Usage:
    command = " ".join(["spinyard", *(error.command_chain or ())])
    return Usage(str(error).strip(), next_step=f"see `{command} --help`")
