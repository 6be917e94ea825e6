"""How failures look: what, then what to do next; a traceback only on request."""

import pytest

from sky.cli import exit_codes
from sky.cli.failures import describe, report
from sky.core import errors


def test_a_failure_is_told_with_what_to_do_next() -> None:
    assert describe(errors.ClusterDoesNotExist("Cluster 'a' does not exist.")) == [
        "Cluster 'a' does not exist.",
        "  Next: `sky status` lists the clusters that exist.",
    ]


def test_advice_is_not_repeated() -> None:
    assert describe(errors.ClusterNotUpError("Cluster 'a' is STOPPED; start it with `sky start a`.")) == [
        "Cluster 'a' is STOPPED; start it with `sky start a`."
    ]


def test_what_was_tried_is_listed() -> None:
    exc = errors.ResourcesUnavailableError(
        "No place has 8 H100.", failover_history=[errors.CapacityRefused("us-east-1a: no capacity")]
    )
    assert describe(exc)[:2] == ["No place has 8 H100.", "  Tried: us-east-1a: no capacity"]


def test_every_exception_of_the_tree_makes_a_block() -> None:
    for name in errors.error_classes():
        assert describe(errors.from_wire({"type": name, "message": ""}))[0].strip(), name


def test_a_bug_is_called_one_and_shows_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SKYPILOT_DEBUG", raising=False)
    assert report(KeyError("thing")) == exit_codes.ERROR
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: Unexpected KeyError: thing\n")
    assert "Traceback" not in shown.err


def test_debugging_shows_where(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKYPILOT_DEBUG", "1")
    try:
        raise ValueError("x")
    except ValueError as exc:
        report(exc)
    assert "Traceback" in capsys.readouterr().err


def test_missing_files_are_named() -> None:
    assert describe(FileNotFoundError(2, "No such file", "a.yaml")) == ["No such file: a.yaml"]
