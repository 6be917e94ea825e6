"""`-o json|jsonl|yaml` on every command of the issue: one document on stdout, nothing else there, and stable codes."""

import json
import re

import pytest
import yaml

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

#: In an order that can be run from top to bottom on one cluster: words, and the type of the document.
COMMANDS = [
    (("launch", "-y", "-d", "-c", "c", "--infra", "local", "sleep 600"), dict),
    (("exec", "c", "--async", "true"), dict),
    (("exec", "c", "true"), dict),
    (("launch", "--dryrun", "--infra", "local", "true"), list),
    (("status",), list),
    (("status", "-v", "-r", "c"), list),
    (("status", "--endpoints", "c"), dict),
    (("queue", "c"), list),
    (("queue",), list),
    (("logs", "c", "1", "--status"), dict),
    (("logs", "c", "2", "--sync-down"), dict),
    (("events", "c"), list),
    (("cost-report",), list),
    (("check",), dict),
    (("gpus", "list", "-a"), list),
    (("api", "status", "-a"), list),
    (("api", "info"), dict),
    (("cancel", "-y", "c", "1"), dict),
    (("autostop", "-y", "-i", "30", "c"), list),
    (("stop", "-y", "c"), list),
    (("start", "-y", "c"), list),
    (("api", "cancel", "-y", "-a"), list),
    (("down", "-y", "c"), list),
]


def codes(sky, words):
    return sky(*words).returncode


def test_every_command_speaks_all_three(sky):
    for words, kind in COMMANDS:
        done = sky(*words, "-o", "json")
        assert "Traceback" not in done.stderr
        code_allowed = (0, 1) if words[:2] == ("logs", "c") else (0,)
        assert done.returncode in code_allowed, (words, done.stdout, done.stderr)
        document = json.loads(done.stdout)
        assert isinstance(document, kind), words
        if words[0] in ("status", "queue", "events", "cost-report", "check", "gpus", "api") and words[1:2] != (
            "cancel",
        ):
            lines = sky.good(*words, "-o", "jsonl").stdout.splitlines()
            assert len([json.loads(line) for line in lines]) >= (len(document) if kind is list else 1), words
            assert isinstance(yaml.safe_load(sky.good(*words, "-o", "yaml").stdout), kind), words


@pytest.mark.parametrize("words", [("api", "start"), ("api", "stop"), ("status", "--ip", "c")], ids=" ".join)
def test_the_rest_of_them_does_too(sky, words):
    sky.good("launch", "-y", "-c", "c", "--infra", "local", "true")
    lines = sky.good(*words, "-o", "jsonl").stdout.splitlines()
    assert [json.loads(line) for line in lines]


def test_a_log_is_shown_as_it_is_or_not_at_all(sky):
    done = sky("logs", "c", "1", "-o", "json")
    assert done.returncode == 2
    assert "--status" in done.stderr


def test_codes_are_those_of_the_documentation(sky):
    (sky.root / "bad.yaml").write_text("resources: {acelerators: H100}\n")
    (sky.root / "late.yaml").write_text("resources: {infra: local}\nvolumes: {/data: disk}\nrun: echo\n")
    launch = ("launch", "-y", "-c", "c")
    wanted = {
        ("--version",): 0,
        ("status",): 0,
        ("status", "gone"): 0,
        ("status", "--ip", "gone"): 1,
        (*launch, "bad.yaml"): 1,
        (*launch, "late.yaml"): 1,
        (*launch, "--infra", "aws", "true"): 1,
        (*launch, "--no-such-flag", "true"): 2,
        ("nonsense",): 2,
        ("down", "-y", "gone"): 1,
        ("queue", "gone"): 1,
        ("logs", "gone"): 1,
        ("exec", "gone", "true"): 1,
        (*launch, "--infra", "local", "true"): 0,
        (*launch, "--infra", "local", "exit 4"): 100,
        ("logs", "c", "77"): 102,
        ("logs", "c", "2", "--status"): 1,
        ("logs", "c", "1", "--status"): 0,
        ("cancel", "-y", "c", "77"): 1,
        ("api", "logs", "deadbeef00"): 1,
        ("down", "-y", "c"): 0,
    }
    found = {words: codes(sky, words) for words in wanted}
    assert {words: code for words, code in found.items() if code != wanted[words]} == {}


def test_talk_and_data_keep_to_their_streams(sky):
    done = sky.good("launch", "-y", "-c", "c", "--infra", "local", "echo data")
    assert [line for line in done.stdout.splitlines() if line] == [
        "Job submitted, ID: 1",
        *re.findall(r"\(sky-cmd, pid=\d+\) data", done.stdout),
        "Job finished (status: SUCCEEDED).",
    ]
    assert "INFRA" in done.stderr and "c: up" in done.stderr
    stopped = sky.good("stop", "-y", "c")
    assert stopped.stdout == "" and "c" in stopped.stderr
