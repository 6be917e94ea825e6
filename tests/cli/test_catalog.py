"""What `sky catalog` understands and how it looks; that it works is shown in tests/e2e/test_catalog.py."""

import click
import pytest
from click.testing import CliRunner

from sky.cli import catalog
from sky.sdk import requests
from sky.sdk.records import Record


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("7h", 25200), ("30m", 1800), ("30", 1800), ("2d", 172800), ("0s", 0), ("1.5h", 5400), (" 1W ", 604800)],
)
def test_ages(said, seconds):
    assert catalog.age(said) == seconds


@pytest.mark.parametrize("said", ["", "h", "-1h", "1y", "soon", "1h30m"])
def test_what_is_no_age(said):
    with pytest.raises(click.BadParameter, match="say 30m, 7h or 2d"):
        catalog.age(said)


def test_no_age_is_any_age():
    assert catalog.age(None) is None


def outcome(cloud, state, offers=0, quarantined=0, detail=""):
    return Record({"cloud": cloud, "state": state, "offers": offers, "quarantined": quarantined, "detail": detail})


@pytest.fixture
def refreshed(monkeypatch):
    """Runs the command on outcomes that a server would give."""

    def run(*outcomes):
        monkeypatch.setattr(catalog.sdk, "refresh", lambda *_: "id")
        monkeypatch.setattr(requests, "stream_and_get", lambda *_, **__: list(outcomes))
        return CliRunner().invoke(catalog.refresh, [], standalone_mode=False)

    return run


@pytest.mark.parametrize(
    ("states", "code"),
    [
        (("refreshed", "unchanged", "young", "sourceless", "locked"), 0),
        (("refreshed", "failed"), 1),
        (("kept",), 1),
        ((), 0),
    ],
)
def test_the_code_says_whether_prices_are_as_good_as_they_can_be(refreshed, states, code):
    done = refreshed(*(outcome(f"c{at}", state) for at, state in enumerate(states)))
    assert done.exception is None
    assert done.return_value == code


def test_only_what_was_read_is_counted(refreshed):
    done = refreshed(outcome("aws", "refreshed", 1200, 3), outcome("gcp", "failed", detail="answered 503"))
    rows = [line.split() for line in done.output.splitlines()]
    assert rows[1] == ["aws", "refreshed", "1200", "3", "-"]
    assert rows[2] == ["gcp", "failed", "-", "-", "answered", "503"]


def test_what_was_kept_can_be_taken(refreshed):
    done = refreshed(outcome("aws", "kept", 9), outcome("gcp", "refreshed", 9), outcome("oci", "kept", 9))
    assert "sky catalog refresh --accept --infra aws --infra oci" in done.output
