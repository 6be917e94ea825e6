#!/usr/bin/env bash
# Sets up one integration in an environment of its own and runs its tests: integrations/run.sh NAME [PYTEST ARGUMENTS]
#   PYTHON   the interpreter to build the environment with (default: python3; 3.11 or newer)
#   LIMIT    seconds that the tests may take in all (default: 900)
# The environment is kept between runs in integrations/NAME/.venv-NAME: orchestrators' pins exclude one another.
set -euo pipefail
cd "$(dirname "$0")"
# The GitHub action and the distribution name `skypilot` are tested by tests/run.sh, with no environment of their own.
name="${1:?which integration? one of: $(ls -d */tests */pyproject.toml | cut -d/ -f1 | sort | uniq -d | tr '\n' ' ')}"
shift
[ -f "$name/pyproject.toml" ] && [ -d "$name/tests" ] || { echo "There are no such tests here: '$name'." >&2; exit 2; }
python="${PYTHON:-python3}"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
  echo "Python 3.11 or newer is needed; found $("$python" --version). Set PYTHON to one." >&2
  exit 2
}
env="$PWD/$name/.venv-$name"
[ -x "$env/bin/python" ] || "$python" -m venv "$env"
began=$SECONDS
# By uv, which takes seconds where pip takes minutes; by pip where uv does not get at the index that pip is told to use.
"$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile uv
UV_SYSTEM_CERTS=1 UV_NATIVE_TLS=1 "$env/bin/uv" pip install --quiet --python "$env/bin/python" \
  --editable .. --editable "./$name[test]" ||
  "$env/bin/python" -m pip install --quiet --disable-pip-version-check --editable .. --editable "./$name[test]"
echo "$name: installed in $((SECONDS - began)) s" >&2
cd "$name"
exec env PATH="$env/bin:$PATH" timeout --kill-after=90 "${LIMIT:-900}" "$env/bin/python" -m pytest "$@"
