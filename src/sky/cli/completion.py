"""Shell completion: put into a shell's start-up file, taken out again, and the names it completes.

Installing is asked for by the root command; the `complete_…` functions by arguments.
The script is written beside our data and sourced, since making it anew would cost each new shell a start of `sky`.
"""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem, get_completion_class

from sky.cli.terminal import talk

BEGIN = "# >>> sky completion >>>"
END = "# <<< sky completion <<<"
_VARIABLE = "_SKY_COMPLETE"


def complete_cluster(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names of clusters; nothing when no server runs, for a key press must not start one."""
    from sky.cli.records import text  # noqa: PLC0415 - only when a key was pressed
    from sky.cli.status_view import fetch  # noqa: PLC0415 - only when a key was pressed
    from sky.sdk import starting, transport  # noqa: PLC0415

    try:
        endpoint = transport.current_endpoint()
        if endpoint.state is not None and not starting.answers(endpoint.state):
            return []
        names = [text(record, "name") for record in fetch([])]
    except Exception:  # noqa: BLE001 - whatever is wrong, a key press is no place to say so
        return []
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def complete_file(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell to name files."""
    return [CompletionItem(incomplete, type="file")]


def complete_directory(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave it to the shell to name directories."""
    return [CompletionItem(incomplete, type="dir")]


def complete_exec(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return names of clusters for the first word of `sky exec CLUSTER ENTRYPOINT`, then files."""
    named = ctx.params.get("words") or ctx.params.get("cluster")
    return (complete_file if named else complete_cluster)(ctx, parameter, incomplete)


def install(shell: str) -> None:
    """Write the script and have the shell read it at start; doing it twice changes nothing."""
    shell = _resolve(shell)
    script = _script_file(shell)
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(_source(shell), encoding="utf-8")
    start_up = _start_up_file(shell)
    if start_up is not None:
        _rewrite(start_up, f"{BEGIN}\n[ -f '{script}' ] && . '{script}'\n{END}\n")
    talk(f"Completion for {shell} is installed ({start_up or script}); it works in new shells.")


def uninstall(shell: str) -> None:
    """Take away what `install` wrote, and nothing else."""
    shell = _resolve(shell)
    _script_file(shell).unlink(missing_ok=True)
    start_up = _start_up_file(shell)
    if start_up is not None and start_up.exists():
        _rewrite(start_up, "")
    talk(f"Completion for {shell} is taken away.")


def _resolve(shell: str) -> str:
    if shell != "auto":
        return shell
    name = Path(os.environ.get("SHELL", "")).name
    if name not in ("bash", "zsh", "fish"):
        raise click.UsageError(f"The shell {name or 'unknown'!r} is none of bash, zsh, fish; name one of them.")
    return name


def _source(shell: str) -> str:
    # click's class is asked directly: its own entry point would run the whole command once more.
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"No completion for {shell}.")
    complete = found(click.Command("sky"), {}, "sky", _VARIABLE)
    text = complete.source_template % complete.source_vars()
    if shell != "zsh":
        return text
    return "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }\n" + text


def _script_file(shell: str) -> Path:
    if shell == "fish":
        home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return Path(home).expanduser() / "fish" / "completions" / "sky.fish"
    home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "sky" / f"completion.{shell}"


def _start_up_file(shell: str) -> Path | None:
    if shell == "bash":
        return Path("~/.bashrc").expanduser()
    if shell == "zsh":
        return Path(os.environ.get("ZDOTDIR") or "~").expanduser() / ".zshrc"
    return None  # fish reads its completions folder


def _rewrite(path: Path, block: str) -> None:
    """Replace our block of a start-up file, or append it; the rest is left as it is, to the byte."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    before, begin, rest = old.partition(BEGIN)
    if begin:
        _, end, after = rest.partition(END)
        new = before + block + (after.removeprefix("\n") if end else "")
    else:
        new = old + ("\n" if old and not old.endswith("\n") and block else "") + block
    if new == old:
        return
    # Following a link: start-up files are often links into a repository of settings.
    target = path.resolve()
    fresh = target.with_name(f".{target.name}.sky-new")
    fresh.write_text(new, encoding="utf-8")
    if target.exists():
        fresh.chmod(target.stat().st_mode & 0o777)
    fresh.replace(target)
