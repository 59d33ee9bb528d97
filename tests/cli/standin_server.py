"""What `server-process` is to the keeper and to the command line, with the stub inside: writes server.json, answers
/readyz, ends at SIGTERM. A gateway on port 1 is refused as the real one refuses a taken port; on port 2 it crashes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

from spinyard.cli.settings_file import load_settings
from tests.cli.stub import Stub


def serve(home: Path) -> None:
    settings = load_settings(home)
    if settings.gateway.endswith(":1"):
        told = {"message": "the gateway port 1 is taken", "code": "port_taken", "fault": "user", "nextStep": "free it"}
        (home / "run" / "server-error.json").write_text(json.dumps(told))
        sys.exit(4)
    if settings.gateway.endswith(":2"):
        raise RuntimeError("boom")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with Stub() as stub:
        stub.write_home(home)
        file = home / "run" / "server.json"
        told = json.loads(file.read_text()) | {"pid": os.getpid(), "gateway": settings.gateway}
        file.write_text(json.dumps(told))
        print("stand-in serves", flush=True)
        stop.wait()


serve(Path(sys.argv[1]))
