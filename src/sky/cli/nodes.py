"""sky ssh NAME: a shell or a command on a node, by the system's own `ssh`. Loaded by its group when it runs.

Also finds nodes for `port-forward`. This process becomes `ssh` (or the shell), so that exit code, signals and the
terminal are its own.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from sky.cli import options
from sky.cli.records import text
from sky.cli.status_view import fetch
from sky.cli.terminal import is_terminal
from sky.core.errors import (
    AgentUnreachable,
    ClusterDoesNotExist,
    ClusterNotUpError,
    NotSupportedError,
    not_supported,
)
from sky.core.model.names import check_cluster_name
from sky.sdk import nodes as sdk
from sky.sdk import requests, ssh_files
from sky.sdk.ssh_seen import ROOT
from sky.sdk.transport import current_endpoint

Record = Mapping[str, Any]

worker = click.option(
    "-w", "--worker", type=click.IntRange(min=0), default=0, metavar="N", help="Worker N instead of the head node."
)


class Node(NamedTuple):
    """A node as the server tells of it, and the SSH configuration to get there with (None for `local`)."""

    cluster: str
    record: Record
    file: Path | None

    @property
    def host(self) -> str:
        """What the last entrance is called in that configuration."""
        if self.record["kind"] == "slurm":
            return f"{self.cluster}-login"
        return ssh_files.host_of(self.cluster, self.record["rank"])


@options.command("ssh", help="Open a shell on a node of CLUSTER, or run a command there (best after --).")
@options.cluster_name
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@worker
def ssh(cluster: str, command: tuple[str, ...], *, worker: int) -> int:
    """Become the shell, or the command."""
    node = find(cluster, worker)
    watched = is_terminal(sys.stdin) and is_terminal(sys.stdout)
    words = local_words(node.record, command) if node.file is None else ssh_words(node, command, terminal=watched)
    program = program_of("ssh") if node.file is not None else "/usr/bin/env"
    if node.file is None:
        os.chdir(node.record["home"])
    sys.stdout.flush()
    os.execv(program, words)  # noqa: S606 - to become it is the point
    return 0


def find(cluster: str, rank: int) -> Node:
    """A node to go to. Raises ClusterDoesNotExist, ClusterNotUpError, AgentUnreachable, NotSupportedError."""
    state = current_endpoint().state
    if state is None:
        raise not_supported(
            "Getting onto nodes of a server on another machine", instead="Run it on the machine of the server."
        )
    found = [each for each in requests.get(sdk.nodes([check_cluster_name(cluster)])) if each["name"] == cluster]
    if not found:
        records = fetch([cluster])
        if not records:
            raise ClusterDoesNotExist(f"Cluster '{cluster}' not found. `sky status` lists those that exist.")
        status = text(records[0], "status")
        raise ClusterNotUpError(f"Cluster '{cluster}' is {status}: nobody can get onto its nodes now. `sky start` it.")
    nodes = {node["rank"]: node for node in found[0]["nodes"]}
    if rank not in nodes:
        raise click.UsageError(f"Cluster '{cluster}' has {len(nodes)} nodes; --worker N: 0 is the head.")
    if nodes[rank]["problem"]:
        raise AgentUnreachable(f"Nobody can get onto node {rank} of '{cluster}': {nodes[rank]['problem']}")
    if not nodes[rank]["entrances"]:
        return Node(cluster, nodes[rank], None)
    return Node(cluster, nodes[rank], ssh_files.write(found[0], Path(ROOT).expanduser(), state))


def program_of(name: str) -> str:
    """The path of a program of the system. Raises NotSupportedError."""
    path = shutil.which(name)
    if path is None:
        raise NotSupportedError(
            f"There is no program `{name}` on this machine, which gets onto nodes. Install the OpenSSH client "
            "(openssh-client on Debian and Ubuntu, openssh-clients on Fedora and RHEL)."
        )
    return path


def ssh_words(node: Node, command: Sequence[str], *, terminal: bool) -> list[str]:
    """The arguments of `ssh` for a shell or a command."""
    remote = remote_line(node.record, command, terminal=terminal)
    return ["ssh", "-F", str(node.file), "-t" if terminal else "-T", node.host, *([remote] if remote else [])]


def remote_line(record: Record, command: Sequence[str], *, terminal: bool) -> str:
    """What the last entrance is asked to run; empty for the login's own shell."""
    line, home, words = _line(command), record["home"], list(record["words"])
    if not home and not words:
        return line
    script = f'exec "${{SHELL:-/bin/sh}}" -c {shlex.quote(line)}' if line else 'exec "${SHELL:-/bin/sh}" -l'
    if home:
        # Whoever shares the machine has another home: what a job left is in this one.
        place = shlex.quote(home) if home.startswith("/") else f'"$HOME"/{shlex.quote(home)}'
        script = f"cd {place} && HOME=$PWD && export HOME && {script}"
    if words and terminal:
        words.append("--pty")
    return shlex.join([*words, "/bin/sh", "-c", script])


def local_words(record: Record, command: Sequence[str]) -> list[str]:
    """The arguments of `env` for a shell or a command on a node of this machine."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    line = _line(command)
    return [*record["words"], shell, *(["-c", line] if line else ["-l"])]


def _line(command: Sequence[str]) -> str:
    """Words as a line of the shell there; a single one is a line already, as `ssh` and `sky exec` have it."""
    return command[0] if len(command) == 1 else shlex.join(command)
