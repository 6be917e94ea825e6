"""How a failure looks: one block on stderr that says what, where, why and what to do next. Called by `sky.cli.main`.

No traceback reaches a user unless SKYPILOT_DEBUG=1 asks for it.
"""

import os
import sys

from sky.cli import exit_codes
from sky.cli.terminal import paint
from sky.core import errors

#: What to do next, for failures whose message cannot know that a command line is in use. First match wins.
_NEXT: tuple[tuple[type[BaseException], str], ...] = (
    (errors.ClusterDoesNotExist, "`sky status` lists the clusters that exist."),
    (
        errors.ClusterNotUpError,
        "`sky start CLUSTER` brings a stopped one back; `sky status -v` tells why it is not UP.",
    ),
    (errors.ResourcesUnavailableError, "`sky check` shows which infra is enabled; `--retry-until-up` keeps trying."),
    (errors.NoCloudAccessError, "`sky check` shows which infra is enabled and how to enable others."),
    (errors.ApiServerAuthenticationError, "Set SKYPILOT_SERVICE_ACCOUNT_TOKEN to a token of that server."),
    (
        errors.ApiServerConnectionError,
        "`sky api info` shows which server is meant; `sky api start` starts your own.",
    ),
    (errors.APIVersionMismatchError, "`sky api stop`, then any command, starts a server of this version."),
    (errors.RequestInterruptedError, "Run the command again."),
    (errors.ServerTemporarilyUnavailableError, "Try again in a moment."),
    (errors.RequestCancelled, "`sky api status -a` lists what became of recent requests."),
    (errors.ClusterSetUpError, "`sky logs CLUSTER` shows the output of setup; `sky events CLUSTER` the whole story."),
)

#: Built-in failures that are about what the user gave us, so that their text can stand alone.
_EXPECTED = (errors.SkyError, ValueError, OSError, NotImplementedError)


def debugging() -> bool:
    """Whether the user asked for tracebacks."""
    return os.environ.get("SKYPILOT_DEBUG", "0").lower() not in ("", "0", "false")


def describe(exc: BaseException) -> list[str]:
    """Return the lines of the block: first what happened, then its details, last what to do next."""
    message = _message(exc)
    if not isinstance(exc, _EXPECTED):
        message = f"Unexpected {type(exc).__name__}: {message}"
    first, *rest = message.splitlines() or [type(exc).__name__]
    lines = [first, *(line if not line.strip() or line.startswith(" ") else f"  {line}" for line in rest)]
    lines += [f"  Tried: {line}" for line in _tried(exc)]
    hint = _next(exc)
    # Many messages already end with their own advice; ours would only repeat it.
    if hint and "sky " not in message.replace("sky.", ""):
        lines.append(f"  Next: {hint}")
    return lines


def report(exc: BaseException) -> int:
    """Show the failure on stderr and return the exit code."""
    if debugging():
        import traceback  # noqa: PLC0415 - 4 ms that only debugging needs

        traceback.print_exception(exc)
    lines = describe(exc)
    sys.stdout.flush()
    sys.stderr.write(paint("Error: ", "red", sys.stderr) + "\n".join(lines) + "\n")
    sys.stderr.flush()
    return exit_codes.ERROR


def _message(exc: BaseException) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.strerror}: {exc.filename}" if exc.filename else exc.strerror
    if isinstance(exc, KeyError) and exc.args:
        return str(exc.args[0])
    return str(exc).strip() or type(exc).__name__


def _tried(exc: BaseException) -> list[str]:
    """Return one line per place that was tried in vain."""
    history = exc.failover_history if isinstance(exc, errors.ResourcesUnavailableError) else []
    own = str(exc)
    return [line for line in (_message(one).splitlines()[0] for one in history) if line not in own]


def _next(exc: BaseException) -> str:
    for kind, hint in _NEXT:
        if isinstance(exc, kind):
            return hint
    if not isinstance(exc, _EXPECTED):
        return "This is a bug in sky. SKYPILOT_DEBUG=1 shows where; `sky api logs --server-logs` what the server saw."
    return ""
