#!/usr/bin/env bash
# Makes requirements/run.txt, dev.txt and bench.txt anew from pyproject.toml and requirements/bench.in: every version,
# every hash, one file for all Pythons and both architectures. With UPGRADE=1 to the newest versions, otherwise moving only what must move.
# Why not uv.lock: docs/decisions/0001-bootstrap.md.
set -euo pipefail
cd "$(dirname "$0")/.."

uv="${UV:-}"
[ -n "$uv" ] || { [ -x .venv/bin/uv ] && uv=.venv/bin/uv; } || uv=$(command -v uv || true)
if [ -z "$uv" ]; then
    pip=(tools/pip-*.whl)
    .venv/bin/python "${pip[0]}/pip" install --quiet 'uv>=0.13'
    uv=.venv/bin/uv
fi

# scikit-image is installed for its photographs only (examples/gallery); nothing else needs these.
left_out=(numpy scipy networkx imageio tifffile lazy-loader)

compile() { # output, then what to lock
    local out=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
        --no-emit-index-url --no-annotate --no-emit-package spinyard-sdk "${left_out[@]/#/--no-emit-package=}" \
        --custom-compile-command 'make lock' \
        ${UPGRADE:+--upgrade} --output-file "$out" "$@" >/dev/null
    # The same environment on every line says nothing: bootstrap checks it once (CPython is not PyPy). Other markers stay.
    sed -i -E "s/ ; python_full_version < '3\\.15' and implementation_name == 'cpython' and \\(\\(platform_machine == 'aarch64'( and platform_python_implementation != 'PyPy')? and sys_platform == 'linux'\\) or \\(platform_machine == 'x86_64'( and platform_python_implementation != 'PyPy')? and sys_platform == 'linux'\\)\\) / /" "$out"
    echo "$out: $(grep -c '==' "$out") packages"
}

compile requirements/dev.txt pyproject.toml --all-extras --group dev
# The smaller set takes the versions of the larger one: going from `make demo` to `make test` only adds packages.
rm -f requirements/run.txt
# The extra `contracts` is for who verifies units (its package is in dev.txt too): no demo and no server needs it.
UPGRADE='' compile requirements/run.txt pyproject.toml --extra pg --extra gallery --group build --constraint requirements/dev.txt
# What `make bench` adds: the peers that rows are compared with. All of dev.txt, then what is not there yet.
rm -f requirements/bench.txt
UPGRADE='' compile requirements/bench.txt requirements/bench.in --constraint requirements/dev.txt
awk 'NR == FNR { if (/==/) { split($1, name, "=="); have[name[1]] = 1 } print; next }
     /==/ { split($1, name, "=="); new = !(name[1] in have) } /^#/ { new = 0 } new' \
    requirements/dev.txt requirements/bench.txt >requirements/bench.new
mv requirements/bench.new requirements/bench.txt

if grep -nE '://|^-|@ ' requirements/run.txt requirements/dev.txt requirements/bench.txt; then
    echo 'lock: a line above names a place on a network; the lock must not' >&2
    exit 1
fi
