"""`python -m bench [--only N2,N4] [--quick | --full] [--out FILE]`: the table, and bench/results/latest.json.

Each row runs in a process of its own, with a limit in time, one after the other. Exit code 1 when a floor is missed or
a row did not end.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import machine
from bench.measured import Scale

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "latest.json"
LIMIT_SECONDS = {
    "N1": (300, 600, 900),
    "N2": (240, 600, 1200),
    "N4": (240, 900, 1800),
    "N6": (180, 600, 900),
    "N7": (360, 600, 1200),
    "N8": (300, 1800, 2400),
    "N9": (300, 900, 1200),
    "N10": (120, 180, 300),
    "N11": (240, 1200, 3600),
    "N12": (240, 900, 1800),
    "N13": (300, 1800, 7200),
    "N14": (120, 300, 900),
    "N19": (180, 400, 1200),
    "SDK": (120, 240, 600),
}
"""by row: quick, normal, full"""


def main() -> int:
    options = _options()
    if options.measure:
        return _measure(options.measure, Scale(options.scale), options.out)
    rows = options.only or list(LIMIT_SECONDS)
    console = Console(stderr=True)
    facts = machine.facts()
    found = []
    for row in rows:
        console.print(f"{row}: up to {_limit(row, options.scale)} s", highlight=False)
        began = _began(row, options.scale)
        found.append({**_run(row, Scale(options.scale)), **began})
        _print(console, found[-1])
    facts["load_after"] = [round(value, 2) for value in os.getloadavg()]
    others = _rows_before(options.out, {row["id"] for row in found}) if options.only else []
    order = list(LIMIT_SECONDS)
    everything = sorted((*found, *others), key=lambda row: order.index(row["id"]))
    report = {"machine": facts, "rows": everything}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=140).print(_table(found))
    for row in others:
        console.print(
            f"{row['id']} is of {row.get('commit', 'unknown')[:9]}. {row.get('outdated', '')}", highlight=False
        )
    return 0 if all(row["ok"] for row in found) else 1


def _began(row: str, scale: str) -> dict[str, Any]:
    """Of what code, when and how a row was measured: rows of one file may be of several runs."""
    return {
        "scale": scale,
        "load": round(os.getloadavg()[0], 2),
        "commit": machine.commit(ROOT),
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "definition": definition(row),
    }


def definition(row: str) -> str:
    """Changes with what the row's module says, not with its comments and layout."""
    path = ROOT / "bench" / "rows" / f"{row.lower()}.py"
    tree = ast.dump(ast.parse(path.read_bytes())) if path.exists() else ""
    return hashlib.sha256(tree.encode()).hexdigest()[:12]


def _rows_before(path: Path, now: set[str]) -> list[dict[str, Any]]:
    """Rows of the file that this run leaves out. One whose definition has changed since is no figure of today's row."""
    try:
        rows = json.loads(path.read_bytes())["rows"]
    except (OSError, ValueError, KeyError):
        return []
    return [checked(row) for row in rows if row["id"] in LIMIT_SECONDS and row["id"] not in now]


def checked(row: dict[str, Any]) -> dict[str, Any]:
    if row.get("definition") == definition(row["id"]):
        return row
    return {**row, "ok": None, "outdated": "The row is defined otherwise since then: this is no figure of today's."}


def _measure(row: str, scale: Scale, out: Path) -> int:
    measured = importlib.import_module(f"bench.rows.{row.lower()}").measure(scale)
    out.write_text(json.dumps(measured.as_json(row)))
    return 0


def _run(row: str, scale: Scale) -> dict[str, Any]:
    """The row in a process group of its own. One that ends badly is a row too: not ok, with its last words."""
    with tempfile.TemporaryDirectory(prefix="sy-bench-") as folder:
        out, errors = Path(folder) / "row.json", Path(folder) / "stderr"
        command = [sys.executable, "-m", "bench", "--measure", row, "--scale", scale, "--out", str(out)]
        began = time.perf_counter()
        with errors.open("wb") as words:
            process = subprocess.Popen(
                command, cwd=ROOT, env=_environment(), stdout=subprocess.DEVNULL, stderr=words, start_new_session=True
            )
            why = ""
            try:
                process.wait(_limit(row, scale))
            except subprocess.TimeoutExpired:
                why = f"not done within {_limit(row, scale)} s"
                process.send_signal(signal.SIGINT)  # so that it takes down what it made
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        if out.exists() and not why:
            return {**json.loads(out.read_bytes()), "seconds": round(time.perf_counter() - began, 1)}
        tail = errors.read_text(errors="replace").strip()[-1500:]
        nothing = {"p50": None, "p99": None, "max": None, "n": 0}
        return {"id": row, "unit": "", "ours": nothing, "peers": {}, "ratio": {}, "floor": None, "aim": None,
                "ok": False, "notes": {"failed": why or "it ended with an error", "stderr": tail}}  # fmt: skip


def _environment() -> dict[str, str]:
    source = f"{ROOT}:{ROOT / 'src'}:{ROOT / 'sdk' / 'src'}"
    return {**os.environ, "PYTHONPATH": source}


def _limit(row: str, scale: str) -> int:
    return LIMIT_SECONDS[row][list(Scale).index(Scale(scale))]


def _print(console: Console, row: dict[str, Any]) -> None:
    if "failed" in row["notes"]:
        console.print(f"{row['id']}: {row['notes']['failed']}\n{row['notes']['stderr']}", style="red", markup=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("row", "unit", "p50", "p99", "max", "n", "peer (p50)", "ratio", "floor", "aim", "ok")
    for row in rows:
        ours = row["ours"]
        peers = "\n".join(f"{name} {figures['p50']}" for name, figures in row["peers"].items())
        ratio = "\n".join(str(row["ratio"].get(name, "-")) for name in row["peers"])
        cells = (row["id"], row["unit"], ours["p50"], ours["p99"], ours["max"], ours["n"], peers, ratio, row["floor"],
                 row["aim"], "ok" if row["ok"] else "MISSED")  # fmt: skip
        table.add_row(*("-" if cell is None else str(cell) for cell in cells))
    return table


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", type=_rows, help="rows, separated by commas")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="scale", action="store_const", const="quick", help="fewer, in minutes")
    size.add_argument("--full", dest="scale", action="store_const", const="full", help="N4 with 100,000 spins too")
    size.add_argument("--scale", choices=list(Scale), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.set_defaults(scale="normal")
    return parser.parse_args()


def _rows(text: str) -> list[str]:
    rows = [name.strip().upper() for name in text.split(",") if name.strip()]
    unknown = [name for name in rows if name not in LIMIT_SECONDS]
    if unknown or not rows:
        raise argparse.ArgumentTypeError(f"no such row: {', '.join(unknown)}; there are {', '.join(LIMIT_SECONDS)}")
    return rows


if __name__ == "__main__":
    sys.exit(main())
