"""The peer of N4: workflows of seven durable steps with DBOS on SQLite, as its documentation sets it up."""

from __future__ import annotations

import json
import os
import tempfile
import time

WORKFLOWS = 60
STEPS = 7


def main() -> None:
    os.environ.setdefault("DBOS__LOG_LEVEL", "ERROR")
    from dbos import DBOS

    with tempfile.TemporaryDirectory(prefix="sy-bench-", dir=os.environ.get("SPINYARD_BENCH_DIR")) as folder:
        DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.sqlite", "log_level": "ERROR"})

        @DBOS.step()
        def step(number: int) -> int:
            return number

        @DBOS.workflow()
        def workflow() -> int:
            return sum(step(number) for number in range(STEPS))

        DBOS.launch()
        DBOS.start_workflow(workflow).get_result()
        began = time.perf_counter()
        handles = [DBOS.start_workflow(workflow) for _ in range(WORKFLOWS)]
        for handle in handles:
            assert handle.get_result() == sum(range(STEPS))
        taken = time.perf_counter() - began
        DBOS.destroy()
    print(json.dumps({"per_second": WORKFLOWS / taken}))


if __name__ == "__main__":
    main()
