"""How `sky ssh` looks and what its code says; that it works is shown in tests/e2e/test_pools.py."""

import json

import pytest
from click.testing import CliRunner

from sky.cli import ssh
from sky.sdk import requests
from sky.sdk.records import Record


def machine(name, state="up", **more):
    return Record(
        {
            "pool": "rack", "machine": name, "state": state, "detail": "", "cpus": 8.0, "free_cpus": 6.5,
            "memory_gb": 64.0, "free_memory_gb": 60.0, "accelerators": {"H100": 8.0},
            "free_accelerators": {"H100": 3.0}, "holders": ["cluster a"], **more,
        }
    )  # fmt: skip


@pytest.fixture
def up(monkeypatch):
    def run(machines, *words):
        asked = []
        monkeypatch.setattr(ssh.sdk, "ssh_up", lambda *given: asked.append(given) or "id")
        monkeypatch.setattr(requests, "get", lambda _: list(machines))
        done = CliRunner().invoke(ssh.up, list(words), standalone_mode=False)
        assert done.exception is None, done.output
        return done, asked

    return run


def test_a_table_of_what_is_free(up):
    done, asked = up([machine("h1")], "--infra", "ssh/rack")
    assert (done.return_value, asked) == (0, [("ssh/rack", None)])
    assert done.output.splitlines()[1].split() == [
        "rack", "h1", "up", "6.5/8", "60/64", "H100", "3/8", "cluster", "a", "-",
    ]  # fmt: skip


def test_the_code_says_whether_all_can_be_used(up):
    silent = machine("h2", "silent", cpus=0.0, accelerators={}, holders=[], detail="no answer within 8 s")
    done, _ = up([machine("h1"), silent])
    assert done.return_value == 1
    assert "no answer within 8 s" in done.output and "1 of 2 machines cannot be used" in done.output
    assert up([])[0].return_value == 1


def test_as_data(up):
    done, _ = up([machine("h1")], "-o", "json")
    assert json.loads(done.output)[0]["free_accelerators"] == {"H100": 3.0}
