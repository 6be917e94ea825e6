"""The shell scripts that a node runs: see to flytekit, then the task, then its files; and the plugin itself.

Asked by the connectors of both generations of Flyte, so it needs neither.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

#: Begins a line of a log that carries a piece of a task's files.
MARK = "FLYTE-SKY-FILES"
#: Bytes of packed files that a log is asked to carry; far more than that belongs into an object store.
MOST_PACKED = 32 << 20

#: Where things of ours are on a node, below its home.
ROOT = "$HOME/.flyte-sky"


@dataclass(frozen=True)
class Run:
    """A task as the node gets it.

    key: names the task's own folder. args: what Flyte wants run. prefix: where outputs go. local: the prefix is a path
    of the submitter's machine. in_workdir: start in the user's workdir. timeout_s: end it after so many seconds.
    own_image: the container image is the user's choice and brings its flytekit. package, program: which Flyte it is.
    """

    key: str
    args: Sequence[str]
    prefix: str
    local: bool
    in_workdir: bool
    timeout_s: float | None
    own_image: bool
    package: str = "flytekit"
    program: str = "pyflyte-execute"


def setup_script(run: Run, version: str, wanted: str | None) -> str:
    """Make sure of a Flyte of this version, then do what the user wants done."""
    venv = _venv(run, version)
    ensure = f"""\
{_finding(run, version)}
if ! flyte_bin >/dev/null; then
  mkdir -p {ROOT}
  exec 9>{ROOT}/lock
  flock 9 2>/dev/null || true
  if ! flyte_bin >/dev/null; then
    echo "flyte: installing {run.package} {version}" >&2
    python3 -m venv {venv} && {venv}/bin/pip install -q '{run.package}=={version}' || {{
      echo "flyte: {run.package} {version} cannot be installed on this node; give an image that has it, or a setup" >&2
      rm -rf {venv}
      exit 1
    }}
  fi
  exec 9>&-
fi
export PATH="$(flyte_bin):$PATH"
"""
    return ensure + once(wanted or "")


def once(script: str) -> str:
    """A setup that is done once on each node: tasks that share a cluster share what it made.

    One that failed is done again by the next task.
    """
    if not script.strip():
        return ""
    mark = f"{ROOT}/setup-{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    return f"""\
mkdir -p {ROOT}
exec 9>{mark}.lock
flock 9 2>/dev/null || true
if [ ! -e {mark} ]; then
(
exec 9>&-
{script}
) || exit $?
touch {mark}
fi
exec 9>&-
"""


def run_script(run: Run, version: str) -> str:
    """Run the task in a fresh folder; its exit code is that of the script."""
    home = f"{ROOT}/{run.key}"
    parts = [
        _finding(run, version),
        'export PATH="$(flyte_bin):$PATH"',
        # A user's exception would otherwise end with exit code 0.
        "export FLYTE_FAIL_ON_ERROR=true",
        f'export PYTHONPATH="{home}/src${{PYTHONPATH:+:$PYTHONPATH}}"',
        f'flyte_work="{home}.work"; rm -rf "$flyte_work"; mkdir -p "$flyte_work"',
        f'flyte_out={shlex.quote(run.prefix)}; [ "${{SKYPILOT_NODE_RANK:-0}}" = 0 ] || '
        'flyte_out="$flyte_out/rank-$SKYPILOT_NODE_RANK"',
    ]
    if run.local:
        parts.append(_inputs(run, home))
    parts.append('cd "$HOME/sky_workdir"' if run.in_workdir else 'cd "$flyte_work"')
    parts += [_timed(run), "flyte_code=$?"]
    if run.timeout_s is not None:
        parts.append(
            f'[ "$flyte_code" != 124 ] || echo "flyte: the task was ended after {run.timeout_s:g} s, its timeout" >&2'
        )
    if run.local:
        parts.append(_outputs(run))
    # What has failed may be run again on the same node, with what is there.
    parts += [f'cd "$HOME"; rm -rf "$flyte_work"; [ "$flyte_code" != 0 ] || rm -rf "{home}"', "exit $flyte_code"]
    return "\n".join(parts)


def lay_out_plugin(folder: Path) -> None:
    """Copy this plugin: the user's module imports it on the node, too."""
    for place in ("flytekitplugins/skypilot", "flyteplugins/skypilot"):
        to = folder / place
        to.mkdir(parents=True)
        for file in Path(__file__).parents[2].joinpath(place).glob("*.py"):
            shutil.copyfile(file, to / file.name)


def _venv(run: Run, version: str) -> str:
    return f"{ROOT}/venv-{run.package}-{version}"


def _finding(run: Run, version: str) -> str:
    """A function that tells the folder of the program to use.

    The submitter's own interpreter comes first: where the node is this very machine, it is the one that has everything.
    """
    own = shlex.quote(str(Path(sys.executable).parent / run.program))
    there = f'"$(command -v {run.program})"'
    first = f"{there} {own}" if run.own_image else f"{own} {there}"
    return (
        f'flyte_bin() {{ for each in {first} "{_venv(run, version)}/bin/{run.program}"; do '
        '[ -x "$each" ] && { dirname "$each"; return 0; }; done; return 1; }'
    )


def _timed(run: Run) -> str:
    words = " ".join(_word(run, each) for each in run.args)
    if run.timeout_s is None:
        return words
    return f"timeout --signal=TERM --kill-after=30 {run.timeout_s:g} {words}"


def _word(run: Run, word: str) -> str:
    """A word of the command; nodes other than the first write their outputs elsewhere."""
    return '"$flyte_out"' if word == run.prefix else shlex.quote(word)


def here_file(key: str) -> str:
    """Name of the empty file by which a node sees that it shares the submitter's file system."""
    return f".here-{key}"


def _inputs(run: Run, home: str) -> str:
    here = shlex.quote(f"{run.prefix}/{here_file(run.key)}")
    return f'flyte_far=; [ -e {here} ] || {{ flyte_far=1; [ ! -d "{home}/in" ] || cp -R "{home}/in/." /; }}'


def _outputs(run: Run) -> str:
    """Where the node has a file system of its own, the log is the way back that every infra has."""
    return f"""\
if [ -n "$flyte_far" ] && [ "${{SKYPILOT_NODE_RANK:-0}}" = 0 ] && [ -d "$flyte_out" ]; then
  tar -C "$flyte_out" --exclude=./inputs.pb -czf "$flyte_work.tgz" .
  if [ "$(wc -c <"$flyte_work.tgz")" -gt {MOST_PACKED} ]; then
    echo "flyte: the outputs are more than {MOST_PACKED >> 20} MiB packed, which is too much for a log;" \\
      "use --raw-output-data-prefix with an object store" >&2
    flyte_code=1
  else
    base64 -w 3000 "$flyte_work.tgz" | sed 's/^/{MARK} /'
  fi
  rm -rf "$flyte_work.tgz" "$flyte_out"
fi"""
