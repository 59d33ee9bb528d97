"""N6: durable claims a second through the HTTP API; a claim ends when the API has answered 201, bound in one commit.

The pool holds real processes, was filled beforehand, and its maximum is its minimum, so nothing is refilled meanwhile.
Closed loop over kept connections from processes of their own. Every claim must have been warm, and no member may have
been given twice: asked of the API afterwards. Peers in the same run, before each of ours: bare SQLite, one INSERT a
commit from one thread (the limit of one commit each); FastAPI with SQLite, one commit a request, under the same load.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.closed_loop import Answers, run
from bench.home import ROOT, Home, Json, environment, first_200, free_port, running_home, stop, wait_for
from bench.measured import Measured, Scale, figures
from spinyard.client import read_server_file

CLAIMS = {Scale.QUICK: 200, Scale.NORMAL: 1_000, Scale.FULL: 1_000}
ROUNDS = {Scale.QUICK: 1, Scale.NORMAL: 3, Scale.FULL: 5}
PROCESSES, CONNECTIONS = 2, 8
SPARE = 5
FLOOR, AIM = 500.0, 1_500.0
MEMBER = ("sleep", "1000006")
NAIVE = (sys.executable, "-m", "bench.programs.naive_claims")


def measure(scale: Scale) -> Measured:
    count = CLAIMS[scale]
    ours: list[float] = []
    bare: list[float] = []
    naive: list[float] = []
    rounds: list[Json] = []
    for _ in range(ROUNDS[scale]):
        bare.append(_bare(count))
        naive.append(count / _naive(count).seconds)
        with running_home() as home:
            rate, seen = _claims(home, count)
        ours.append(rate)
        rounds.append(seen)
    found = figures(ours, 1)
    return Measured(
        unit="claims/s",
        ours=found,
        peers={"FastAPI + SQLite, naive": figures(naive, 1), "bare SQLite, 1 thread (limit)": figures(bare, 1)},
        floor=FLOOR,
        aim=AIM,
        ok=found.p50 >= FLOOR and not any(one["not_warm"] or one["given_twice"] or one["refused"] for one in rounds),
        notes={"claims": count, "processes": PROCESSES, "connections_each": CONNECTIONS, "rounds": rounds},
    )


def _claims(home: Home, count: int) -> tuple[float, Json]:
    size = count + SPARE
    spec: Json = {"owner": "bench", "min": size, "max": size, "template": {"command": list(MEMBER)}}
    manifest = {"apiVersion": "spinyard.dev/v1", "kind": "WarmPool", "metadata": {"name": "box"}, "spec": spec}
    home.client.apply([manifest])
    filled = wait_for("the pool is full", lambda: _warm(home) == size, 300, every=0.5)
    server = read_server_file(home.path)
    assert server is not None
    address = server.url.removeprefix("http://")
    headers = {"host": address, "authorization": f"Bearer {(home.path / 'token').read_text().strip()}"}
    cpu = _cpu(home)
    answers = run(
        address,
        "/v1/namespaces/default/warmpools/box/claims",
        headers,
        count,
        processes=PROCESSES,
        connections=CONNECTIONS,
        env=environment(home.path),
    )
    began = time.perf_counter() - answers.seconds
    spent = {name: round((after - cpu[name]) * 1e3 / count, 2) for name, after in _cpu(home).items()}
    bound_at_once = sum(1 for body in answers.bodies if body["status"].get("bound"))
    wait_for("every claim is ready", lambda: _states(home) == {"ready"}, 120, every=0.2)
    ready = time.perf_counter() - began
    listed = home.client.list("Claim", "default")["items"]
    members = [claim["status"]["member"]["name"] for claim in listed]
    assert len(listed) == len(answers.bodies), f"{len(listed)} claims, and {len(answers.bodies)} were answered 201"
    took = figures(answers.milliseconds, 2)
    return len(answers.bodies) / answers.seconds, {
        "per_second": round(len(answers.bodies) / answers.seconds, 1),
        "refused": answers.refused[:5],
        "not_warm": sum(1 for claim in listed if claim["status"].get("cold")) + count - bound_at_once,
        "given_twice": len(members) - len(set(members)),
        "answer_p50_ms": took.p50,
        "answer_p99_ms": took.p99,
        "all_ready_s": round(ready, 2),
        "filled_s": round(filled, 1),
        "cpu_ms_per_claim": {**spent, "load": round(answers.cpu_seconds * 1e3 / count, 2)},
    }


def _warm(home: Home) -> int:
    return int(home.client.get("WarmPool", "default", "box")["status"].get("warm", 0))


def _states(home: Home) -> set[str]:
    return {claim["status"]["state"] for claim in home.client.list("Claim", "default")["items"]}


def _cpu(home: Home) -> dict[str, float]:
    return {name: sum(process.cpu_times()[:2]) for name, process in home.family().items()}


def _bare(count: int) -> float:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp") as folder:
        db = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("CREATE TABLE claims (name TEXT PRIMARY KEY, member TEXT UNIQUE, at REAL)")
        began = time.perf_counter()
        for number in range(count):
            db.execute("INSERT INTO claims VALUES (?, ?, ?)", (f"c{number}", f"m{number}", time.time()))
        seconds = time.perf_counter() - began
        db.close()
        return count / seconds


def _naive(count: int) -> Answers:
    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir="/tmp") as folder:
        port = free_port()
        env = environment(Path(folder), PORT=str(port), STORE=f"{folder}/naive.db", MEMBERS=str(count + SPARE))
        server = subprocess.Popen(NAIVE, cwd=ROOT, env=env)
        try:
            address = f"127.0.0.1:{port}"
            first_200(address, "/healthz", "localhost")
            answers = run(
                address, "/claims", {"host": address}, count, processes=PROCESSES, connections=CONNECTIONS, env=env
            )
        finally:
            stop(server)
        assert len({body["member"] for body in answers.bodies}) == count, "the peer gave a member twice"
        return answers
