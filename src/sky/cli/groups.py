"""The root command and its groups: they know names and helps from a table and load a command's module only to run it.

Called by `sky.cli.main` for everything that is not answered before click is loaded.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import CompletionItem

from sky.cli import exit_codes
from sky.cli.table_of_commands import (
    API_ROWS,
    BUDGET_ROWS,
    CATALOG_ROWS,
    GPUS_ROWS,
    HIDDEN_COMMANDS,
    JOBS_ROWS,
    POOL_ROWS,
    SCHEDULE_ROWS,
    SECTIONS,
    SSH_NODE,
    SSH_ROWS,
    TOKEN_ROWS,
    USERS_ROWS,
    WORKSPACE_ROWS,
    Row,
    root_help,
)

#: Set by the shell's completion script when it asks for words.
COMPLETION = "_SKY_COMPLETE"
#: Set where spans are to be told to somebody.
TRACED = "OTEL_EXPORTER_OTLP_ENDPOINT"
CONTEXT = {"help_option_names": ["-h", "--help"]}


class LazyGroup(click.Group):
    """A group whose sub-commands are rows of a table."""

    def __init__(self, name: str, rows: Sequence[Row], hidden_rows: Sequence[Row] = (), **attributes: object) -> None:
        super().__init__(name, context_settings=CONTEXT, **attributes)  # type: ignore[arg-type]
        self.rows = tuple(rows)
        self._targets = {row[0]: row[1] for row in (*rows, *hidden_rows)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, _, _ in self.rows]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = self._targets.get(cmd_name)
        if target is None:
            return None
        module, attribute = target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self._targets and not args[0].startswith("-"):
            import difflib  # noqa: PLC0415 - 5 ms that only a mistyped word needs

            near = difflib.get_close_matches(args[0], self._targets, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{hint}", ctx)
        name, command, rest = super().resolve_command(ctx, args)
        # A command found under its hidden name still calls itself by what was typed.
        return (args[0] if args else name), command, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, _, text in self.rows])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        # click's own would load every module to ask whether its command is hidden.
        found = [CompletionItem(name, help=text) for name, _, text in self.rows if name.startswith(incomplete)]
        return found + click.Command.shell_complete(self, ctx, incomplete)


class _Ssh(LazyGroup):
    """`sky ssh up|down`, and `sky ssh NAME` for all else; a cluster called `up` is reached by `sky ssh -- up`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = [name for name, _, _ in self.rows]
        if args and args[0] not in (*known, *ctx.help_option_names):
            args = [SSH_NODE[0], *(args[1:] if args[0] == "--" else args)]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return ("" if name == SSH_NODE[0] else name), command, rest

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_usage(ctx.command_path, "CLUSTER [--worker N] [-- COMMAND...]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...", prefix="   or: ")

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from sky.cli.completion import complete_cluster  # noqa: PLC0415 - asks the server; no command needs it

        return super().shell_complete(ctx, incomplete) + complete_cluster(ctx, self.get_params(ctx)[0], incomplete)


class _Root(LazyGroup):
    def get_help(self, ctx: click.Context) -> str:
        return root_help().rstrip("\n")


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        from sky.version import __version__  # noqa: PLC0415 - not needed by any command

        click.echo(f"sky, version {__version__}")
        ctx.exit()


def _commit(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value:
        import sky.version as built  # noqa: PLC0415 - not needed by any command

        click.echo(f"sky, commit {getattr(built, '__commit__', 'unknown')}")
        ctx.exit()


def _completion(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        from sky.cli import completion  # noqa: PLC0415 - writes files in the user's home; no command needs it

        verb = completion.install if parameter.name == "install_shell_completion" else completion.uninstall
        verb(value)
        ctx.exit()


_SHELLS = click.Choice(["bash", "zsh", "fish", "auto"])


def _root_parameters() -> list[click.Parameter]:
    flag = {"is_flag": True, "expose_value": False, "is_eager": True}
    shell = {"type": _SHELLS, "expose_value": False, "is_eager": True, "callback": _completion}
    return [
        click.Option(["-v", "--version"], callback=_version, **flag),  # type: ignore[arg-type]
        click.Option(["-c", "--commit"], callback=_commit, **flag),  # type: ignore[arg-type]
        click.Option(["--install-shell-completion"], **shell),  # type: ignore[arg-type]
        click.Option(["--uninstall-shell-completion"], **shell),  # type: ignore[arg-type]
    ]


root = _Root("sky", [row for _, rows in SECTIONS for row in rows], HIDDEN_COMMANDS, params=_root_parameters())
api = LazyGroup("api", API_ROWS, help="The API server and the requests made to it.")
jobs = LazyGroup("jobs", JOBS_ROWS, help="Managed jobs: on clusters of their own, recovered from every loss.")
schedule = LazyGroup("schedule", SCHEDULE_ROWS, help="Managed jobs at the times of a cron expression.")
pool = LazyGroup("pool", POOL_ROWS, help="Pools: workers that are set up once and run one job after another.")
budget = LazyGroup("budget", BUDGET_ROWS, help="Budgets: how much may be spent, and what is done as it is.")
workspace = LazyGroup("workspace", WORKSPACE_ROWS, help="Workspaces: which one is used, and who works where.")
users = LazyGroup("users", USERS_ROWS, help="Users of a shared server, and tokens of service accounts.")
token = LazyGroup("token", TOKEN_ROWS, help="Tokens of service accounts.")
catalog = LazyGroup("catalog", CATALOG_ROWS, help="Prices: how good and how old they are, and newer ones.")
gpus = LazyGroup("gpus", GPUS_ROWS, help="Accelerators and where they are sold.")
ssh = _Ssh(
    "ssh",
    SSH_ROWS,
    [SSH_NODE],
    help="A shell on a node of CLUSTER (or the command after --); pools of machines by SSH.",
)


def _traced(ctx: click.Context, arguments: list[str]) -> object:
    """Invoke within a span that is named as the command is, without what it is given."""
    from sky.sdk.traces import command_span  # noqa: PLC0415 - for those alone who want traces

    named = [word for word in arguments[:1] if word in root.list_commands(ctx)]
    with command_span(" ".join(["sky", *named])):
        return root.invoke(ctx)


def run(arguments: list[str]) -> int:
    """Run a command line through click and return its exit code; usage errors are shown here, others are raised."""
    if COMPLETION in os.environ:
        root.main(args=arguments, prog_name="sky")
    try:
        # Not through `root.main`, which takes a closed pipe for an error.
        with root.make_context("sky", list(arguments), obj=tuple(arguments)) as ctx:
            result = _traced(ctx, arguments) if TRACED in os.environ else root.invoke(ctx)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except click.ClickException as exc:
        exc.show(sys.stderr)
        if isinstance(exc, click.NoSuchOption) and exc.ctx is not None and exc.ctx.info_name in ("launch", "exec", ""):
            sys.stderr.write("  If it belongs to the command to be run, put that command in quotes, or after --.\n")
        return exc.exit_code
    return result if isinstance(result, int) else exit_codes.OK
