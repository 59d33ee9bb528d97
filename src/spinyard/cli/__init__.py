"""The command line. It asks the server over HTTP and the keeper over its socket; it holds no logic of its own."""

import sys
from collections.abc import Sequence

INTERRUPTED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `spinyard`: returns the exit code."""
    try:
        from spinyard.cli.app import main as run

        return run(argv)
    except KeyboardInterrupt:
        print("spinyard: interrupted before anything was asked", file=sys.stderr)
        return INTERRUPTED
