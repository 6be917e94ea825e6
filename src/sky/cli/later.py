"""Commands of features that this version does not have: each says so and exits 1, whatever follows it.

Named by the table of commands, so that a user of the interface meets a clear answer instead of "no such command".
"""

import click

from sky.cli import exit_codes
from sky.cli.terminal import talk


def _later(name: str, feature: str, instead: str) -> click.Command:
    def answer(words: tuple[str, ...]) -> int:
        talk(f"Error: not supported yet in this version: {feature} (`sky {name}`).", "red")
        talk(f"  Next: {instead}")
        return exit_codes.ERROR

    return click.Command(
        name,
        params=[click.Argument(["words"], nargs=-1, type=click.UNPROCESSED)],
        callback=answer,
        help=f"Not supported yet in this version: {feature}.",
        context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    )


storage = _later("storage", "buckets", "local `file_mounts` and `workdir` work today.")
volumes = _later("volumes", "volumes", "`sky stop` keeps the disks of a cluster.")
jobs_dashboard = _later("jobs dashboard", "the web page of the server", "`sky jobs queue -v` tells the same.")
serve = _later("serve", "services", "a job may listen on a port; `sky status --endpoint PORT` tells its address.")
dashboard = _later("dashboard", "the web page of the server", "`sky status -v` and `sky events CLUSTER` tell the same.")
status_kubernetes = _later("status-kubernetes", "Kubernetes", "`--infra local` uses this machine.")
local = _later("local", "a Kubernetes cluster on this machine", "`--infra local` needs none.")
gpus_label = _later("gpus label", "Kubernetes", "`sky gpus list` shows what this machine has.")
