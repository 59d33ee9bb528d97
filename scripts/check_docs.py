"""Checks the commands that README.md and docs/*.md show: `make check` runs it.

What it does with each fenced block whose language is console, bash or sh:

* `<!-- run -->` on the line before the fence: its commands are really run by bash, all such blocks of one file in one
  temporary home and directory (with `examples` in it), each block within RUN_SECONDS. A command that fails, fails the
  check. What the commands print is not compared with the text.
* otherwise: every `spinyard` command in it must exist and know the long options shown (asked of its own `--help`), and
  every `make` target must exist.

`<!-- file: NAME -->` before any fence puts its text into that directory under NAME, for the blocks that are run.
In console blocks commands stand behind `$ `, everything else is output. `--list` only prints what was found.
"""

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
RUN_SECONDS = 120
ASK_SECONDS = 30
SHELL_LANGUAGES = {"console", "bash", "sh"}
FENCE = re.compile(r"^(?P<indent>\s*)(?P<ticks>```+)\s*(?P<language>[\w-]*)")
MARK = re.compile(r"^\s*<!--\s*(?P<verb>run|file:)\s*(?P<name>\S*)\s*-->\s*$")


@dataclass(frozen=True, slots=True)
class Block:
    path: Path
    line: int
    language: str
    text: str
    run: bool
    file_name: str | None

    @property
    def place(self) -> str:
        return f"{self.path.name}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block, continued lines joined; of a console block only what follows `$ `."""
        joined = re.sub(r"\\\n\s*(?:>\s)?", " ", self.text)
        lines = joined.splitlines()
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the commands shown in the documentation.")
    parser.add_argument("--list", action="store_true", help="print what was found and run nothing")
    parser.add_argument("files", nargs="*", type=Path, help="default: README.md and docs/*.md")
    arguments = parser.parse_args()
    paths = arguments.files or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    problems: list[str] = []
    counted = ran = 0
    for path in paths:
        if not path.exists():
            problems.append(f"{path.name} does not exist")
            continue
        blocks = list(blocks_of(path.read_text(), path))
        shell = [block for block in blocks if block.language in SHELL_LANGUAGES]
        if arguments.list:
            for block in shell:
                print(block.place, "run" if block.run else "ask", block.commands)
            continue
        for block in shell:
            counted += len(block.commands)
            problems += [f"{block.place}: {text}" for command in block.commands for text in unknown_words(command)]
        if any(block.run for block in shell):
            ran += sum(block.run for block in shell)
            problems += run_blocks(blocks)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"{len(paths)} documents, {counted} commands known to their programs, {ran} blocks run")
    return 1 if problems else 0


def blocks_of(text: str, path: Path) -> Iterator[Block]:
    lines = text.splitlines()
    mark: re.Match[str] | None = None
    number = 0
    while number < len(lines):
        opening = FENCE.match(lines[number])
        if opening is None:
            # Blank lines may stand between a mark and its fence.
            mark = MARK.match(lines[number]) or (mark if not lines[number].strip() else None)
            number += 1
            continue
        start = number
        number += 1
        body = []
        while number < len(lines) and lines[number].strip() != opening["ticks"]:
            body.append(lines[number].removeprefix(opening["indent"]))
            number += 1
        number += 1
        verb = mark["verb"] if mark else None
        yield Block(
            path=path,
            line=start + 1,
            language=opening["language"],
            text="\n".join(body),
            run=verb == "run",
            file_name=mark["name"] if mark and verb == "file:" else None,
        )
        mark = None


# --- asked ------------------------------------------------------------------------------------------------------------


def unknown_words(command: str) -> Iterator[str]:
    """What a command names that its program does not know."""
    for part in re.split(r"\s*(?:&&|\|\||;|\|)\s*", command):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:  # a quote that goes on in another part: only running it can tell
            continue
        while words and "=" in words[0] and not words[0].startswith("-"):
            words = words[1:]
        if not words:
            continue
        if words[0] == "make":
            targets = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
            yield from (f"`make {target}` does not exist" for target in targets if target not in make_targets())
        elif Path(words[0]).name == "spinyard":
            yield from unknown_to_spinyard(words[1:])


def unknown_to_spinyard(words: list[str]) -> Iterator[str]:
    if not words or words[0].startswith("-"):
        return
    shown = spinyard_help(words[0])
    if shown is None:
        yield f"`spinyard {words[0]}` does not exist"
        return
    own = words[1 : words.index("--")] if "--" in words else words[1:]
    for word in own:
        option = word.split("=", 1)[0]
        if option.startswith("--") and not re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", shown):
            yield f"`spinyard {words[0]}` does not know {option}"


@cache
def spinyard_help(command: str) -> str | None:
    """What `spinyard COMMAND --help` prints; None when there is no such command."""
    environment = {**os.environ, "COLUMNS": "240", "NO_COLOR": "1", "TERM": "dumb"}
    asked = [str(BIN / "spinyard"), command, "--help"]
    done = subprocess.run(
        asked, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=ASK_SECONDS
    )
    # Some parsers print the general help, and succeed, for a word they do not know: the usage line must name it.
    return done.stdout if done.returncode == 0 and re.search(rf"\b{re.escape(command)}\b", done.stdout) else None


@cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


# --- run --------------------------------------------------------------------------------------------------------------


def run_blocks(blocks: list[Block]) -> list[str]:
    """Runs the marked blocks of one document in order; stops at the first that fails. Leaves nothing running."""
    with tempfile.TemporaryDirectory(prefix="spinyard-docs-") as name:
        work = Path(name) / "work"
        work.mkdir()
        for shown in ("examples", ".venv"):
            (work / shown).symlink_to(ROOT / shown)
        environment = {
            **os.environ,
            "HOME": name,
            "SPINYARD_HOME": str(Path(name) / "spinyard"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }
        try:
            for block in blocks:
                if block.file_name is not None:
                    (work / block.file_name).write_text(block.text + "\n")
                elif block.run and not block.commands:
                    return [f"{block.place}: marked to be run, and there is no command in it"]
                elif block.run:
                    problem = run_script("\n".join(block.commands), work, environment)
                    if problem:
                        return [f"{block.place}: {problem}"]
            return []
        finally:
            if Path(environment["SPINYARD_HOME"]).exists():
                run_script("spinyard down --delete", work, environment)


def run_script(script: str, work: Path, environment: dict[str, str]) -> str | None:
    """What went wrong, with the end of the output; None when all commands succeeded."""
    # Output goes to a file: a server left in the background would keep a pipe open, and us waiting.
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(RUN_SECONDS)
            verdict = f"exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            verdict = f"not finished after {RUN_SECONDS} s"
        output.seek(0)
        return f"{verdict}\n{output.read()[-4000:]}" if verdict else None


if __name__ == "__main__":
    sys.exit(main())
