"""Asking: a default of yes, answers through a pipe, and nothing done when nobody answers."""

import io

import pytest

from sky.cli import exit_codes
from sky.cli.prompts import Declined, confirm


def ask(monkeypatch: pytest.MonkeyPatch, answers: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answers))
    confirm("Stopping 2 clusters: a, b. Proceed?", assume_yes=False)


@pytest.mark.parametrize("answer", ["\n", "y\n", "YES\n", "what?\ny\n"])
def test_yes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str) -> None:
    ask(monkeypatch, answer)
    shown = capsys.readouterr()
    assert "Stopping 2 clusters: a, b. Proceed? [Y/n]" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize("answer", ["n\n", "No\n", "eh\nn\n"])
def test_no_ends_with_an_error_code(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with pytest.raises(Declined) as caught:
        ask(monkeypatch, answer)
    assert caught.value.exit_code == exit_codes.ERROR
    assert "nobody" not in caught.value.message


def test_nobody_to_ask_says_how_to_go_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Declined, match="pass -y"):
        ask(monkeypatch, "")


def test_ctrl_c_at_the_question_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def readline(self, *_: object) -> str:
            raise KeyboardInterrupt

    monkeypatch.setattr("sys.stdin", Interrupted())
    with pytest.raises(Declined) as caught:
        confirm("Proceed?", assume_yes=False)
    assert caught.value.exit_code == exit_codes.INTERRUPTED


def test_yes_is_not_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    confirm("Proceed?", assume_yes=True)
    assert capsys.readouterr().err == ""
