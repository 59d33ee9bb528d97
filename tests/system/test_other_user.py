"""The README's round as a user who is not root and owns nothing but a home, with the .venv that is there."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.house import ROOT, House, is_alive

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

USER = "nobody"

ROUND = """\
set -eux
test "$(id -u)" != 0
! touch /etc/spinyard-test 2>/dev/null
spinyard server --gateway {gateway} --port-range {low}-{high} -o json
spinyard up -f examples/httpbin.yaml --timeout 60s
curl --fail --silent --max-time 10 -H 'Host: httpbin.localhost' http://{gateway}/get > "$HOME/get.json"
spinyard get spins -o name > "$HOME/spins"
spinyard restart httpbin --wait --timeout 60s
spinyard explain service httpbin
spinyard doctor > "$HOME/doctor" || true
spinyard down --delete --timeout 60s
"""


@pytest.fixture
def their_home() -> Iterator[Path]:
    user = pwd.getpwnam(USER)
    home = Path(tempfile.mkdtemp(prefix="sy-user-", dir="/tmp"))
    os.chown(home, user.pw_uid, user.pw_gid)
    yield home
    shutil.rmtree(home, ignore_errors=True)


def test_the_whole_round_needs_no_root(their_home: Path, empty_house: House) -> None:
    low, high = empty_house.ports
    script = ROUND.format(gateway=empty_house.gateway, low=low, high=high)
    try:
        done = as_user(script, their_home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.splitlines()[-1] == "nothing is left", done.stdout
        assert json.loads((their_home / "get.json").read_text())["headers"]["Host"] == "httpbin.localhost"
        assert len((their_home / "spins").read_text().split()) == 3
        assert (their_home / ".spinyard" / "spinyard.db").stat().st_uid == pwd.getpwnam(USER).pw_uid
        assert running_in(their_home) == []
    finally:
        for pid in running_in(their_home):
            os.kill(pid, 9)


def as_user(script: str, home: Path) -> subprocess.CompletedProcess[str]:
    """In a mount namespace of its own, where the checkout and its interpreter can be reached by everybody."""
    words = [
        "setpriv",
        f"--reuid={USER}",
        "--regid=nogroup",
        "--clear-groups",
        "--inh-caps=-all",
        "--bounding-set=-all",
    ]
    words += ["--no-new-privs", "bash", "-c", script]
    return subprocess.run(
        ["unshare", "--mount", "bash", "-ec", f"{opened(home)}cd {shlex.quote(str(ROOT))}\nexec {shlex.join(words)}"],
        env={"PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )


def opened(scratch: Path) -> str:
    """Commands that show the checkout and its interpreter at their places when a directory above them is closed to
    others (/root, say): an empty one is laid over it, with nothing in it but them."""
    aside, over, back = list[str](), set[str](), list[str]()
    for number, path in enumerate((ROOT, Path(sys.base_prefix).resolve())):
        closed = next((one for one in reversed(path.parents) if not one.stat().st_mode & stat.S_IXOTH), None)
        if closed is not None:
            place, meanwhile = shlex.quote(str(path)), shlex.quote(f"{scratch}/aside-{number}")
            aside.append(f"mkdir {meanwhile}; mount --bind {place} {meanwhile}")
            over.add(f"mount -t tmpfs -o mode=755 closed {shlex.quote(str(closed))}")
            back.append(f"mkdir -p {place}; mount --move {meanwhile} {place}; rmdir {meanwhile}")
    return "".join(f"{line}\n" for line in (*aside, *sorted(over), *back))


def running_in(home: Path) -> list[int]:
    """Live processes with that home in their command line or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and is_alive(int(entry.name)):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue  # gone meanwhile
            if str(home).encode() in words:
                found.append(int(entry.name))
    return found
