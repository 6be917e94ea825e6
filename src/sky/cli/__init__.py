"""The `sky` command: what a person types, and how the answer looks on a terminal. The console script calls `main`.

Speed is a feature here, so two things are answered before click (half of a cold start) is loaded: the help, and a
plain `sky status`. Everything else goes to the lazy groups of `sky.cli.groups`, which load one command's module.
"""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from sky.cli import exit_codes


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (default: this process's own) and return its exit code; never raises but SystemExit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper) and stream.encoding.lower() != "utf-8":
            # A terminal that knows no "→" gets a "?" instead of a failure.
            stream.reconfigure(errors="replace")
    try:
        code = _answer(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader left (`| head`). Whatever is still buffered must not fail a second time at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return exit_codes.PIPE_CLOSED


def _answer(arguments: list[str]) -> int:
    try:
        return _dispatch(arguments)
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as interrupt:
        lines = ["Interrupted.", *getattr(interrupt, "__notes__", ())]
        sys.stderr.write("\n" + "\n".join(lines) + "\n")
        return exit_codes.INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last place before the user: a block of text, never a traceback
        # Only here, because the error tree is not needed by commands that succeed.
        from sky.cli.failures import report  # noqa: PLC0415

        return report(exc)


def _dispatch(arguments: list[str]) -> int:
    if "_SKY_COMPLETE" not in os.environ:
        if not arguments or arguments in (["-h"], ["--help"]):
            from sky.cli.table_of_commands import root_help  # noqa: PLC0415 - each path loads what it needs, no more

            sys.stdout.write(root_help())
            return exit_codes.OK if arguments else exit_codes.USAGE
        plain = _plain_status(arguments)
        if plain is not None:
            from sky.cli.status_view import Wanted, show  # noqa: PLC0415 - saves loading click: half of a cold start

            names, verbose, form = plain
            return show(Wanted(names=names, verbose=verbose, form=form))
    from sky.cli.groups import run  # noqa: PLC0415 - click is loaded only when there is something to parse

    return run(arguments)


def _plain_status(words: list[str]) -> tuple[tuple[str, ...], bool, str] | None:
    """Return names, verbosity and form of a `status` that needs no parser; None for any other command line."""
    if words[0] != "status":
        return None
    names: list[str] = []
    verbose, form = False, "table"
    rest = iter(words[1:])
    for word in rest:
        if word in ("-v", "--verbose"):
            verbose = True
        elif word in ("-o", "--output"):
            form = next(rest, "")
            if form not in ("table", "json", "jsonl", "yaml"):
                return None
        elif not word or word.startswith("-"):
            return None
        else:
            names.append(word)
    return tuple(names), verbose, form


def script() -> None:
    """Entry of `python -m sky.cli`."""
    sys.exit(main())


def __getattr__(name: str) -> object:
    if name != "cli":
        raise AttributeError(f"module 'sky.cli' has no attribute '{name}'")
    # The root command under the name by which programs of other versions call it.
    from sky.cli.groups import root  # noqa: PLC0415 - click is half of a cold start

    return root
