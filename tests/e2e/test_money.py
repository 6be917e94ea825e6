"""Receipts, budgets, schedules and news through the real command, on real processes."""

import csv
import io
import itertools
import json
import os
import signal

import pytest

pytestmark = pytest.mark.e2e


def jobs(sky):
    return {job["job_id"]: job for job in sky.json("jobs", "queue", "-a")}


def test_a_job_has_a_receipt_and_the_ledger_its_columns(sky, eventually):
    sky.good("jobs", "launch", "-y", "-n", "paid", "--infra", "local", "sleep 1")
    eventually(lambda: jobs(sky)[1]["schedule_state"] == "DONE")
    told = sky.json("jobs", "receipt", "1")
    (interval,) = told["intervals"]
    assert (told["status"], interval["cluster"], interval["place"], told["open"]) == (
        "SUCCEEDED",
        "paid-1",
        "local",
        False,
    )
    assert 0.9 < told["ran"] < told["held"] and 0 < told["idle_share"] < 1
    assert told["total"] == sum(line["cost"] for line in told["lines"])
    shown = sky.good("jobs", "receipt", "1").stdout
    assert "Managed job 1 paid" in shown and "Recoveries:   none" in shown
    rows = list(csv.DictReader(io.StringIO(sky.good("ledger", "--all", "--focus").stdout)))
    assert [(row["ResourceName"], row["BillingCurrency"], row["ChargeCategory"]) for row in rows] == [
        ("paid-1", "USD", "Usage")
    ]  # fmt: skip
    assert list(csv.DictReader(io.StringIO(sky.good("jobs", "receipt", "1", "-o", "csv").stdout))) == rows
    sky.good("ledger", "--all", "--focus", "bill.csv")
    assert (sky.root / "bill.csv").read_text().count("\n") == 2
    assert "paid-1" in sky.good("receipt", "paid-1").stdout
    assert sky("jobs", "receipt", "99").returncode == 1


def test_a_budget_refuses_with_its_figures(sky):
    told = sky.json("budget", "set", "small", "10", "--label", "team=x", "--action", "100% refuse_new")
    assert (told["scope"], told["of"], told["actions"]) == ("label", "team=x", ["100% refuse_new"])
    task = {"resources": {"infra": "local", "labels": {"team": "x"}, "job_recovery": {"max_cost": 20}}, "run": "true"}
    (sky.root / "t.yaml").write_text(json.dumps(task))
    refused = sky("jobs", "launch", "-y", "t.yaml")
    assert refused.returncode != 0
    assert "the budget 'small' (label team=x: $10.00 in all) has $0.00 spent" in refused.stderr
    assert "asked: $20.00" in refused.stderr
    assert jobs(sky) == {}
    sky.good("budget", "rm", "small")
    assert "No budgets." in sky.good("budget", "list").stdout
    assert sky("jobs", "launch", "-y", "t.yaml").returncode == 0


def test_a_schedule_goes_on_over_a_killed_server(sky, eventually):
    sky.good("jobs", "schedule", "add", "--cron", "* * * * * *", "-n", "tick", "--infra", "local",
             "--overlap", "queue", "echo tick")  # fmt: skip
    eventually(lambda: len(jobs(sky)) >= 1)
    os.kill(sky.server_pid(), signal.SIGKILL)
    before = len(jobs(sky))
    eventually(lambda: len(jobs(sky)) > before, 60)
    (one,) = sky.json("jobs", "schedule", "list")
    assert (one["name"], one["zone"], one["overlap"], one["paused"]) == ("tick", "UTC", "queue", False)
    sky.good("jobs", "schedule", "rm", "tick")
    eventually(lambda: all(job["schedule_state"] == "DONE" for job in jobs(sky).values()), 60)
    # One at a time: none began before the one before had ended.
    told = sorted(jobs(sky).values(), key=lambda job: job["job_id"])
    assert all(job["status"] == "SUCCEEDED" for job in told)
    for first, then in itertools.pairwise(told):
        assert then["submitted_at"] >= first["end_at"]


def test_who_is_named_is_told(sky, eventually):
    (sky.root / ".sky").mkdir(exist_ok=True)
    config = {"notifications": {"sinks": [{"command": f"cat >> {sky.root}/all; echo >> {sky.root}/all"}]}}
    (sky.root / ".sky" / "config.yaml").write_text(json.dumps(config))
    own = {"command": f"cat >> {sky.root}/own; echo >> {sky.root}/own", "on": ["RUNNING", "FAILED"]}
    task = {"run": "exit 3", "resources": {"infra": "local"}, "notify": own}
    (sky.root / "t.yaml").write_text(json.dumps(task))
    assert sky("jobs", "launch", "-y", "-n", "loud", "t.yaml").returncode == 100

    def heard(name):
        path = sky.root / name
        return [json.loads(line)["status"] for line in path.read_text().splitlines() if line] if path.exists() else []

    eventually(lambda: heard("all") == ["FAILED"] and "FAILED" in heard("own"))
    assert sorted(heard("own")) in (["FAILED"], ["FAILED", "RUNNING"]), (
        "a job that fails at once may never be seen to run"
    )
