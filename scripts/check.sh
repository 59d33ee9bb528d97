#!/usr/bin/env bash
# `make check`: everything that is judged by a tool, each part in turn, all of them even after a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

failed=()
step() { # name, command...
    local name=$1 log
    shift
    log=$(mktemp)
    if timeout --foreground --kill-after=10 600 "$@" >"$log" 2>&1; then
        printf 'ok      %s\n' "$name"
    else
        printf 'FAILED  %s: %s\n' "$name" "$*"
        cat "$log"
        failed+=("$name")
    fi
    rm -f "$log"
}

bin=.venv/bin
step format "$bin/ruff" format --check .
step lint "$bin/ruff" check .
step types "$bin/mypy" --strict src sdk/src
step imports "$bin/lint-imports" --config importlinter.ini
step states "$bin/python" scripts/gen_states.py --check
step docs "$bin/python" scripts/check_docs.py

if [ "${#failed[@]}" -gt 0 ]; then
    echo "check: ${failed[*]} failed"
    exit 1
fi
