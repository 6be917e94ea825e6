#!/usr/bin/env bash
# Installs the command into an environment of its own, for this and the following steps.
set -euo pipefail
if [ "$SKY_INPUT_PACKAGE" = none ]; then
  python3 -c 'import sky' || { echo "::error::package is none, and this Python has no sky"; exit 1; }
  exit 0
fi
package=${SKY_INPUT_PACKAGE:-altostratus${SKY_INPUT_VERSION:+==$SKY_INPUT_VERSION}}
# A word that begins with a dash would be an option of pip.
case $package in -*) echo "::error::not a package: $package"; exit 1 ;; esac
python3 -m venv "$RUNNER_TEMP/sky-venv"
"$RUNNER_TEMP/sky-venv/bin/python" -m pip install --quiet --disable-pip-version-check "$package"
echo "$RUNNER_TEMP/sky-venv/bin" >> "$GITHUB_PATH"
