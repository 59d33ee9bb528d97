#!/usr/bin/env bash
# `make test-system`: the tests marked `system`. Having none is said, and is the only "nothing ran" that passes.
set -uo pipefail
cd "$(dirname "$0")/.."

timeout --foreground --kill-after=30 "${SYSTEM_SECONDS:-900}" .venv/bin/python -m pytest tests -m system "$@"
code=$?
if [ "$code" -eq 5 ]; then # pytest: no tests collected; a file that cannot be collected gives 2
    echo "test-system: no test is marked 'system'; nothing ran."
    exit 0
fi
exit "$code"
