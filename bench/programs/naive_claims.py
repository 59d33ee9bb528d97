"""The least that is a durable claim service: FastAPI and SQLite, one commit (synchronous=FULL) a request."""

import os
import sqlite3
import threading

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel


class Claim(BaseModel):
    name: str


def make(path: str, members: int) -> FastAPI:
    app = FastAPI()
    lock = threading.Lock()
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE members (name TEXT PRIMARY KEY, claim TEXT UNIQUE)")
    db.execute("CREATE INDEX free ON members (name) WHERE claim IS NULL")
    db.execute("BEGIN")
    db.executemany("INSERT INTO members VALUES (?, NULL)", ((f"member-{number}",) for number in range(members)))
    db.execute("COMMIT")

    @app.post("/claims", status_code=201)
    def claim(body: Claim) -> dict[str, str]:
        with lock:
            found = db.execute(
                "UPDATE members SET claim = ? WHERE name = (SELECT name FROM members WHERE claim IS NULL LIMIT 1)"
                " RETURNING name",
                (body.name,),
            ).fetchall()
        if not found:
            raise HTTPException(409, "none is left")
        return {"name": body.name, "member": found[0][0]}

    @app.get("/healthz")
    def healthz() -> dict[str, str]:
        return {}

    return app


if __name__ == "__main__":
    app = make(os.environ["STORE"], int(os.environ["MEMBERS"]))
    uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning", access_log=False)
