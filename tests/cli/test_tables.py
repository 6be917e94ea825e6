"""Tables: whole when piped, cut on a terminal, and never a way for a job's name to reach the terminal's controls."""

import io

import pytest

from sky.cli import tables


class Screen(io.StringIO):
    """A terminal of a given width."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Screen()


def test_piped_tables_keep_every_character() -> None:
    long = "x" * 300
    shown = tables.render(("NAME", "COMMAND"), [["a", long]], stream=io.StringIO())
    assert shown == f"NAME  COMMAND\na     {long}"


def test_numbers_stand_right() -> None:
    shown = tables.render(("N", "COST"), [["a", "5"], ["b", "100.25"]], right=("COST",), stream=io.StringIO())
    assert shown.split("\n") == ["N    COST", "a       5", "b  100.25"]


def test_a_terminal_cuts_the_widest_column_and_keeps_the_name(screen: Screen) -> None:
    name = "a-cluster-with-a-name"
    shown = tables.render(("NAME", "COMMAND"), [[name, "y" * 200]], stream=screen).split("\n")[1]
    assert shown.startswith(name)
    assert len(shown) == 40
    assert shown.endswith("…")


def test_a_narrow_terminal_cuts_no_status(screen: Screen) -> None:
    headers, row = ("ID", "NAME", "Status", "Message"), ["1", "n" * 30, "SUCCEEDED", "m" * 30]
    assert "SUCCEEDED" in tables.render(headers, [row], stream=screen)


def test_only_terminals_get_colour(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    row = [["a", "UP"]]
    assert "\x1b[32mUP\x1b[0m" in tables.render(("NAME", "STATUS"), row, stream=screen)
    assert "\x1b" not in tables.render(("NAME", "STATUS"), row, stream=io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in tables.render(("NAME", "STATUS"), row, stream=screen)


def test_control_characters_do_not_pass() -> None:
    shown = tables.render(("NAME",), [["a\x1b[2Jb\nc"]], stream=io.StringIO())
    assert shown == "NAME\na [2Jb c"


def test_wide_characters_take_two_columns() -> None:
    shown = tables.render(("NAME", "X"), [["日本", "1"], ["abcd", "2"]], stream=io.StringIO()).split("\n")
    assert shown[1:] == ["日本  1", "abcd  2"]


@pytest.mark.parametrize(("value", "expected"), [(None, "-"), ("", "-"), (0, "0"), ("a", "a")])
def test_absent_values_show_as_a_dash(value: object, expected: str) -> None:
    assert tables.clean(value) == expected
