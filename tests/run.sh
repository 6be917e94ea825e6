#!/usr/bin/env bash
# Sets everything up on a fresh machine and runs all tests. Arguments go to pytest.
#   PYTHON   the interpreter to build the environment with (default: python3; 3.11 or newer)
#   JOBS     tests that run side by side (default: two for each core)
#   TEST_ENV where that environment is kept between runs (default: .venv-test in this checkout)
set -euo pipefail
cd "$(dirname "$0")/.."
env="${TEST_ENV:-$PWD/.venv-test}"
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; found $("$python" --version). Set PYTHON to one." >&2
  exit 2
}
[ -x "$env/bin/python" ] || "$python" -m venv "$env"
# By uv, which takes seconds where pip takes minutes; by pip where uv does not get at the index that pip is told to use.
"$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile uv
UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 "$env/bin/uv" pip install --quiet --python "$env/bin/python" --editable '.[dev]' ||
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
# Test hosts and real daemons, where they can be installed.
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  bash tests/testbed/install.sh >&2 || echo "some test beds could not be installed: their tests are skipped" >&2
fi
command -v git >/dev/null || echo "git is not installed: the tests of git working directories are skipped" >&2
# Tests start thousands of Python processes: none is to compile the sources again, whatever the shell says.
unset PYTHONDONTWRITEBYTECODE
# Half of the time a test waits for something that happens elsewhere, so two of them share a core.
exec "$env/bin/python" -m pytest -n "${JOBS:-$((2 * $(nproc)))}" "$@"
