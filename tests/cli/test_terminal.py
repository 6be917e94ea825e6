"""The talk of a request under a spinner: lines pass whole, the spinner leaves nothing behind."""

import io
import time

import pytest

from sky.cli.terminal import Progress, width


class Screen(io.StringIO):
    """A terminal that remembers."""

    def isatty(self) -> bool:
        return True


def test_without_a_terminal_talk_passes_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    with Progress("Launching…") as progress:
        progress.write("half ")
        progress.write("a line\nand more")
    assert err.getvalue() == "half a line\nand more"


def test_the_spinner_turns_and_is_wiped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Progress, "INTERVAL", 0.001)
    with Progress("Launching…") as progress:
        end = time.monotonic() + 60
        while "Launching…" not in screen.getvalue():
            assert time.monotonic() < end
        progress.write("a: up\n")
    shown = screen.getvalue()
    assert "\x1b[Ka: up\n" in shown
    assert shown.endswith("\r\x1b[K")


def test_lines_that_are_said_elsewhere_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    err = io.StringIO()
    monkeypatch.setattr("sys.stderr", err)
    with Progress("", without="Job submitted, ID:") as progress:
        for piece in ("a: up\nJob sub", "mitted, ID: 1\nb", ": last"):
            progress.write(piece)
    assert err.getvalue() == "a: up\nb: last"


def test_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert width(io.StringIO()) is None
    monkeypatch.setenv("COLUMNS", "77")
    assert width(Screen()) == 77
    monkeypatch.setenv("COLUMNS", "0")
    assert width(Screen()) == 120
