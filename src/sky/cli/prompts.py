"""Asking before something is changed. Used by every command that takes `--yes`."""

import sys

import click

from sky.cli import exit_codes
from sky.cli.terminal import is_terminal, talk


class Declined(click.ClickException):
    """The answer was no, or there was nobody to answer; nothing was done."""

    exit_code = exit_codes.ERROR

    def show(self, file: object = None) -> None:
        talk(self.message)


class Withdrawn(Declined):
    """Ctrl-C at the question; nothing was done."""

    exit_code = exit_codes.INTERRUPTED


def confirm(question: str, *, assume_yes: bool) -> None:
    """Ask on stderr and return if the answer is yes (the default).

    An answer may be piped in (`yes | sky down …`); with nothing to read, nothing is done and the message says why.
    Raises Declined.
    """
    while not assume_yes:
        try:
            sys.stderr.write(f"{question} [Y/n]: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            raise Withdrawn("\nAborted; nothing was done.") from None
        if not line:
            reason = "" if is_terminal(sys.stdin) else " There was nobody to ask; pass -y to go ahead."
            raise Declined(f"\nAborted; nothing was done.{reason}")
        answer = line.strip().lower()
        if answer in ("", "y", "yes"):
            return
        if answer in ("n", "no"):
            raise Declined("Aborted; nothing was done.")
        talk("Please answer y or n.")
