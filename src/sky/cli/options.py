"""Options that recur: resources and environment of a task, output form, confirmation, `--config`. Used by all commands.

Values keep the interface's spelling; "none" as the value of a resource option takes away what the YAML says.
"""

from collections.abc import Callable
from typing import Any

import click

from sky.cli.completion import complete_cluster, complete_directory, complete_file
from sky.cli.groups import CONTEXT
from sky.cli.output import FORMATS
from sky.sdk import settings

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _use_config(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> None:
    if value:
        settings.override(value)


def command(name: str, *, help: str, hidden: bool = False) -> Callable[[Callable[..., Any]], click.Command]:
    """Declare a command with the options that every command has."""

    def declare(function: Callable[..., Any]) -> click.Command:
        with_config = click.option(
            "--config",
            multiple=True,
            expose_value=False,
            callback=_use_config,
            metavar="PATH|KEY=VALUE",
            help="Configuration for this call only: a YAML file or dotted key=value[,key=value]; repeatable.",
        )(function)
        return click.command(name, help=help, hidden=hidden, context_settings=CONTEXT)(with_config)

    return declare


def _stack(*decorators: Decorator) -> Decorator:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorate in reversed(decorators):
            function = decorate(function)
        return function

    return apply


yes = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
asynchronous = click.option(
    "--async/--no-async",
    "asynchronous",
    default=False,
    help="Print the id of the request and return; see `sky api logs`.",
)
output = click.option(
    "-o", "--output", "form", type=click.Choice(FORMATS), default="table", help="Form of the result on stdout."
)
all_users = click.option("-u", "--all-users", is_flag=True, help="Those of all users.")
wait_for = click.option(
    "--wait-for",
    type=click.Choice(["jobs_and_ssh", "jobs", "none"]),
    help="What keeps a cluster from being idle: jobs and SSH sessions, jobs only, or nothing.",
)
cluster_names = click.argument("clusters", nargs=-1, shell_complete=complete_cluster)
cluster_name = click.argument("cluster", shell_complete=complete_cluster)

_environment = _stack(
    click.option("--env-file", type=click.Path(dir_okay=False), help="Dotenv file with variables of the task."),
    click.option("--env", multiple=True, metavar="KEY[=VALUE]", help="Variable of the task; KEY alone copies yours."),
    click.option("--secret-file", type=click.Path(dir_okay=False), help="Dotenv file with secrets of the task."),
    click.option("--secret", multiple=True, metavar="KEY[=VALUE]", help="As --env, but never shown again."),
)

_places = _stack(
    click.option("--infra", help="Where: cloud[/region[/zone]], k8s/context, ssh/pool, slurm/cluster, local."),
    click.option("--cloud", hidden=True),
    click.option("--region", hidden=True),
    click.option("--zone", hidden=True),
)

_machine = _stack(
    click.option("--gpus", help="Accelerators per node, NAME[:COUNT]; COUNT may be a fraction."),
    click.option("-t", "--instance-type", help="Exact instance type."),
    click.option("--cpus", help="vCPUs per node: 4, or 4+ for at least 4."),
    click.option("--memory", help="Memory per node in GB: 16, or 16+ for at least 16."),
    click.option("--disk-size", help="Disk in GB."),
    click.option("--disk-tier", help="low, medium, high, ultra, best or none."),
    click.option("--network-tier", help="standard or best."),
    click.option("--local-disk", help="Disk of the instance itself: [nvme|ssd:]SIZE[+]."),
    click.option("--use-spot/--no-use-spot", default=None, help="Use spot instances."),
    click.option("--image-id", help="Machine image, or docker:IMAGE."),
    click.option("--ports", multiple=True, help="Ports to open: 8080, 10000-10010 or a list with commas; repeatable."),
)

_task = _stack(
    click.option("-n", "--name", help="Name of the task."),
    click.option("--workdir", shell_complete=complete_directory, help="Directory to sync to ~/sky_workdir."),
    click.option("--git-url", help="Take the workdir from this git repository."),
    click.option("--git-ref", help="Branch, tag or commit of --git-url."),
    click.option("--num-nodes", type=click.IntRange(min=1), help="Number of nodes."),
)

task_options = _stack(_task, _places, _machine, _environment)
#: Parameters by which the options of a task reach a command; `launch` adds the last.
TASK_FLAGS = (
    "name", "workdir", "git_url", "git_ref", "num_nodes", "infra", "cloud", "region", "zone", "gpus", "instance_type",
    "cpus", "memory", "disk_size", "disk_tier", "network_tier", "local_disk", "use_spot", "image_id", "ports",
    "env_file", "env", "secret_file", "secret", "priority",
)  # fmt: skip
entrypoint = click.argument("entrypoint", nargs=-1, metavar="ENTRYPOINT...", shell_complete=complete_file)
