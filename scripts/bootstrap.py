"""Makes .venv from the lock: `python3 scripts/bootstrap.py run|dev|bench`. The Makefile calls it before all else.

Standard library only, and it parses on any Python 3.6 or newer, so that an old `python3` gets a sentence and not a
traceback. It needs neither pip nor ensurepip: a pip wheel is committed in tools/ and run as it is, so that the user's
own pip configuration (mirrors, proxies, certificates) is honoured. Why so: docs/decisions/0001-bootstrap.md.

It must never: write outside the checkout, use the network when the stamp fits, or leave a half-made .venv that looks
finished (the stamp is removed first and written last).

Exit codes: 0 ready, 1 the installation failed, 2 this machine cannot run Spinyard.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PIP_WHEEL = os.path.join("tools", "pip-26.3-py3-none-any.whl")
PIP_SHA256 = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"
SETS = ("run", "dev", "bench")  # each contains the one before it
ARCHITECTURES = ("x86_64", "aarch64")
GLIBC = (2, 31)
PYTHON_OLDEST, PYTHON_NEWEST = (3, 11), (3, 14)  # what the lock was resolved for
SQLITE = (3, 35)
OTHER_NAMES = ("python3.14", "python3.13", "python3.12", "python3.11")
PROBE_SECONDS = 20

# Run in a candidate interpreter; prints its facts as JSON. `base` is found outside any active virtual environment.
PROBE = """
import json, sys
facts = {"version": list(sys.version_info[:3]), "implementation": sys.implementation.name,
         "bits64": sys.maxsize > 2**32, "path": getattr(sys, "_base_executable", None) or sys.executable,
         "sqlite": None, "missing": []}
try:
    import sqlite3
    facts["sqlite"] = list(sqlite3.sqlite_version_info)
except ImportError:
    pass
for name in ("ssl", "venv", "zlib", "ctypes"):
    try:
        __import__(name)
    except ImportError:
        facts["missing"].append(name)
try:
    import sysconfig
    facts["free_threaded"] = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
except ImportError:
    facts["free_threaded"] = False
print(json.dumps(facts))
"""


class CannotRun(Exception):
    """This machine cannot run Spinyard; the text is the one sentence that says why."""


class InstallFailed(Exception):
    """Something that may work the next time went wrong; the text says what and what to do."""


def main(argv):
    if len(argv) != 1 or argv[0] not in SETS:
        print("usage: bootstrap.py {}".format("|".join(SETS)), file=sys.stderr)
        return 2
    wanted = argv[0]
    try:
        if is_ready(ROOT, wanted):
            return 0
        problem = platform_problem(platform.system(), platform.machine(), glibc_of_this_system())
        if problem:
            raise CannotRun(problem)
        python = choose_python(candidates())
        with only_one(os.path.join(ROOT, ".bootstrap.lock")):
            if not is_ready(ROOT, wanted):  # another run may have made it while we waited
                make(ROOT, wanted, python)
        return 0
    except CannotRun as error:
        print("spinyard: {}".format(error), file=sys.stderr)
        return 2
    except InstallFailed as error:
        print("spinyard: {}".format(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("spinyard: interrupted; the next run starts the installation again.", file=sys.stderr)
        return 130


# --- what this machine is -------------------------------------------------------------------------------------------


def glibc_of_this_system():
    """The C library as "glibc 2.36"; empty where there is none (musl)."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, OSError, ValueError):
        return ""


def platform_problem(system, machine, libc):
    """The one sentence that says why this system cannot run Spinyard, or None."""
    if system != "Linux":
        return "Spinyard runs on Linux only, and this is {}.".format(system or "an unknown system")
    if machine not in ARCHITECTURES:
        return "Spinyard runs on x86_64 and aarch64, and this machine is {}.".format(machine or "of an unknown kind")
    name, _, version = libc.partition(" ")
    if name != "glibc":
        return "Spinyard needs a Linux with glibc >= {}, and this one has another C library.".format(dotted(GLIBC))
    if numbers(version) < GLIBC:
        return "Spinyard needs glibc >= {}, and this system has {}.".format(dotted(GLIBC), version)
    return None


def python_problem(facts):
    """The one sentence that says why an interpreter cannot be used, or None. `facts` is what PROBE prints."""
    version, path = tuple(facts["version"]), facts["path"]
    shown = "{} is Python {}".format(path, dotted(version))
    if facts["implementation"] != "cpython":
        return "Spinyard needs CPython, and {} is {}.".format(path, facts["implementation"])
    if version[:2] < PYTHON_OLDEST:
        return "Spinyard needs Python >= {}, and {}.".format(dotted(PYTHON_OLDEST), shown)
    if version[:2] > PYTHON_NEWEST:
        return "Spinyard is locked for Python {} to {}, and {}.".format(
            dotted(PYTHON_OLDEST), dotted(PYTHON_NEWEST), shown
        )
    if not facts["bits64"]:
        return "Spinyard needs a 64-bit Python, and {} is a 32-bit one.".format(path)
    if facts["free_threaded"]:
        return "Spinyard needs a Python with the GIL, and {} is a free-threaded build.".format(path)
    if facts["sqlite"] is None:
        return "Spinyard needs Python's sqlite3 module, and {} was built without it.".format(path)
    if tuple(facts["sqlite"]) < SQLITE:
        return "Spinyard needs SQLite >= {}, and {} brings {}.".format(dotted(SQLITE), path, dotted(facts["sqlite"]))
    if facts["missing"]:
        return "Spinyard needs Python's module {}, and {} was built without it.".format(facts["missing"][0], path)
    return None


def candidates():
    """The facts of the Python that runs this, then of those on PATH under other names; broken ones are left out."""
    seen = set()
    for name in (sys.executable, "python3", *OTHER_NAMES):
        path = shutil.which(name) if name else None
        if path is None:
            continue
        facts = probe(path)
        if facts is None or facts["path"] in seen:
            continue
        seen.add(facts["path"])
        yield facts


def probe(path):
    try:
        done = subprocess.run(
            [path, "-I", "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=PROBE_SECONDS
        )
        return json.loads(done.stdout.decode()) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def choose_python(found):
    """The path of the first suitable interpreter. Raises CannotRun with what is wrong with the first one."""
    first_problem = None
    for facts in found:
        problem = python_problem(facts)
        if problem is None:
            return facts["path"]
        first_problem = first_problem or problem
    raise CannotRun(first_problem or "Spinyard needs Python >= {}, and none was found.".format(dotted(PYTHON_OLDEST)))


# --- is it there already --------------------------------------------------------------------------------------------


def is_ready(root, wanted):
    """True when .venv is whole, holds the wanted set, and our two packages are installed as described today."""
    stamp = read_stamp(root)
    if stamp is None or SETS.index(wanted) > SETS.index(stamp["set"]) or stamp["packages"] != packages_digest(root):
        return False
    return is_whole(root, stamp)


def is_whole(root, stamp):
    """True when .venv was made here from today's lock and has lost nothing since. Then adding to it is enough."""
    if stamp["root"] != root or stamp["lock"] != lock_digest(root, stamp["set"]):
        return False
    site = os.path.join(root, ".venv", "lib", stamp["site"], "site-packages")
    return all(os.path.exists(os.path.join(site, name)) for name in stamp["installed"]) and (
        venv_version(root) == stamp["python"]
    )


def read_stamp(root):
    """What the last finished installation wrote, or None; anything unreadable is None."""
    try:
        with open(stamp_path(root)) as file:
            stamp = json.load(file)
    except (OSError, ValueError):
        return None
    known = isinstance(stamp, dict) and {"root", "lock", "set", "python", "site", "installed", "packages"} <= set(stamp)
    return stamp if known and stamp["set"] in SETS else None


def write_stamp(root, wanted):
    version = venv_version(root)
    if version is None:
        raise InstallFailed("the new .venv does not run; remove it and try again.")
    site = "python" + ".".join(version.split(".")[:2])
    names = os.listdir(os.path.join(root, ".venv", "lib", site, "site-packages"))
    stamp = {
        "root": root,
        "set": wanted,
        "lock": lock_digest(root, wanted),
        "packages": packages_digest(root),
        "python": version,
        "site": site,
        "installed": sorted(name for name in names if not name.startswith("__pycache__")),
    }
    half = stamp_path(root) + ".new"
    with open(half, "w") as file:
        json.dump(stamp, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(half, stamp_path(root))


def stamp_path(root):
    return os.path.join(root, ".venv", "spinyard-stamp.json")


def lock_digest(root, wanted):
    return sha256(os.path.join(root, "requirements", wanted + ".txt"))


def packages_digest(root):
    """Of what the editable installation of our two packages depends on: entry points, versions, metadata."""
    digest = hashlib.sha256()
    for name in ("pyproject.toml", os.path.join("sdk", "pyproject.toml")):
        with open(os.path.join(root, name)) as file:
            # Settings of linters and tests come later in the file and change nothing that is installed.
            digest.update(file.read().split("\n[tool.", 1)[0].encode())
    return digest.hexdigest()


def venv_version(root):
    """The version of the interpreter in .venv; None when it does not run (the system's Python went away)."""
    try:
        return (
            subprocess.run(
                [venv_python(root), "-I", "-S", "-c", "import platform; print(platform.python_version())"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=PROBE_SECONDS,
                check=True,
            )
            .stdout.decode()
            .strip()
        )
    except (OSError, subprocess.SubprocessError):
        return None


# --- make it --------------------------------------------------------------------------------------------------------


def make(root, wanted, python):
    stamp = read_stamp(root)
    if stamp is not None and is_whole(root, stamp):
        wanted = max(wanted, stamp["set"], key=SETS.index)
        say("bringing .venv up to date ({})".format(wanted))
        os.unlink(stamp_path(root))
    else:
        say("making .venv with {} (once; needs the network and about a minute)".format(python))
        remove_venv(root)
        run([python, "-I", "-m", "venv", "--without-pip", os.path.join(root, ".venv")], root, "venv failed")
    check_pip_wheel(root)
    lock = os.path.join("requirements", wanted + ".txt")
    pip_install(
        root,
        ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r", lock],
        "pip could not install what is locked in {}; its message is above. The first run needs the network, or a"
        " mirror that your pip configuration names.".format(lock),
    )
    # The build backend came with the lock, so this needs no network and no isolated build environment.
    pip_install(
        root,
        ["--no-index", "--no-build-isolation", "--no-deps", "--force-reinstall", "-e", "sdk", "-e", "."],
        "pip could not install the two packages of this checkout; its message is above.",
    )
    write_stamp(root, wanted)
    say("ready")


def remove_venv(root):
    path = os.path.join(root, ".venv")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(stamp_path(root))
    if os.path.islink(path) or os.path.isfile(path):
        os.unlink(path)
    elif os.path.isdir(path):
        shutil.rmtree(path)


def check_pip_wheel(root):
    path = os.path.join(root, PIP_WHEEL)
    if not os.path.exists(path):
        raise InstallFailed("{} is missing; `git checkout -- tools` brings it back.".format(PIP_WHEEL))
    if sha256(path) != PIP_SHA256:
        raise InstallFailed("{} is not the file that was committed; `git checkout -- tools`.".format(PIP_WHEEL))


def pip_install(root, arguments, complaint):
    pip = os.path.join(root, PIP_WHEEL, "pip")
    shared = ["--disable-pip-version-check", "--no-input", "install", "--quiet", "--progress-bar", "off"]
    run([venv_python(root), "-I", pip, *shared, *arguments], root, complaint)


def run(command, root, complaint):
    if subprocess.run(command, cwd=root, env=clean_environment(os.environ), stdin=subprocess.DEVNULL).returncode != 0:
        raise InstallFailed(complaint)


def clean_environment(environment):
    """The user's environment without what would send an installation somewhere else; mirrors and certificates stay."""
    elsewhere = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_REQUIRE_VIRTUALENV",
                 "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_DRY_RUN", "PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP",
                 "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}  # fmt: skip
    kept = {name: value for name, value in environment.items() if name not in elsewhere}
    kept["PIP_USER"] = "0"  # also against `user = true` in a configuration file
    return kept


@contextlib.contextmanager
def only_one(path):
    """Holds the lock of this checkout; freed by the kernel when this process ends, however it ends."""
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is installing; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- small things ---------------------------------------------------------------------------------------------------


def venv_python(root):
    return os.path.join(root, ".venv", "bin", "python")


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def numbers(version):
    """(2, 36) of "2.36" and of "2.36-rc1"; missing or odd parts count as 0."""
    parts = []
    for part in version.split(".")[:3]:
        digits = ""
        for letter in part:
            if not letter.isdigit():
                break
            digits += letter
        parts.append(int(digits or 0))
    return tuple(parts)


def dotted(version):
    return ".".join(str(part) for part in version)


def say(text):
    print("spinyard: {}".format(text), file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
