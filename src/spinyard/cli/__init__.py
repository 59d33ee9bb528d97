"""The command line. It asks the server over HTTP and the keeper over its socket; it holds no logic of its own."""

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `spinyard`: returns the exit code."""
    from spinyard.cli.app import main as run

    return run(argv)
