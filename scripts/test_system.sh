#!/usr/bin/env bash
# `make test-system`: the tests marked `system`. First it gets what they need, as root with apt-get; what cannot be had is
# a failure, said before anything runs. promtool is only unpacked: the Debian package would start a Prometheus.
set -uo pipefail
cd "$(dirname "$0")/.."

TOOLS=.venv/system-tools
export PATH="$PWD/$TOOLS/usr/bin:$PATH"
# command:Debian package
NEEDED=(chromium:chromium promtool:prometheus ip:iproute2 setpriv:util-linux unshare:util-linux mount:mount
    systemd-analyze:systemd tmux:tmux git:git make:make)

packages_missing() {
    local one
    for one in "${NEEDED[@]}"; do
        command -v "${one%%:*}" >/dev/null || echo "${one##*:}"
    done | sort -u
}

unpack_prometheus() {
    local place
    place=$(mktemp -d) || return 1
    chmod 755 "$place"
    (cd "$place" && apt-get -qq -o APT::Sandbox::User=root download prometheus) &&
        mkdir -p "$TOOLS" &&
        dpkg-deb --fsys-tarfile "$place"/prometheus_*.deb | tar -x -C "$TOOLS" ./usr/bin/promtool
    local code=$?
    rm -rf "$place"
    return "$code"
}

get() {
    local missing=$1 installed
    installed=$(grep -vx prometheus <<<"$missing")
    echo "test-system: getting" $missing
    apt-get -qq update || return 1
    if [ -n "$installed" ]; then
        # shellcheck disable=SC2086  # a list of names
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $installed >/dev/null || return 1
    fi
    if grep -qx prometheus <<<"$missing"; then unpack_prometheus || return 1; fi
}

if [ "$(id -u)" -ne 0 ]; then
    echo "test-system: these tests need root (mounts, namespaces, other users): sudo make test-system" >&2
    exit 1
fi
missing=$(packages_missing)
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "test-system: not here, and there is no apt-get to install them:" $missing >&2
        exit 1
    fi
    get "$missing"
    missing=$(packages_missing)
    if [ -n "$missing" ]; then
        echo "test-system: apt-get could not get" $missing "(is there a network?); nothing was tested" >&2
        exit 1
    fi
fi

timeout --foreground --kill-after=30 "${SYSTEM_SECONDS:-1200}" .venv/bin/python -m pytest tests -m system "$@"
