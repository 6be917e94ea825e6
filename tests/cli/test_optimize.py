"""How plans look: the table, the lines under it, reasons; and what `optimize` makes of its arguments."""

import io

import click
import pytest

from sky.cli import optimize, plans, times

NOW = 1_790_000_000.0
DAY = 86400.0


@pytest.fixture(autouse=True)
def now(monkeypatch):
    monkeypatch.setattr(times, "now", lambda: NOW)


def placement(infra="aws/us-east-1", usd=2.0, **more):
    standing = {"price": usd, "data": 0.0, "expected_loss": 0.0, "hours": 1.0}
    told = {"infra": infra, "instance_type": "m.4", "num_nodes": 1, "cpus": 4.0, "memory_gb": 15.25,
            "accelerators": None, "use_spot": False, "price_hourly": usd, "chosen": False, "enabled": True,
            "observed": NOW - 3600, "standing": standing}  # fmt: skip
    return {**told, **more}


def lines(plan, **options):
    return plans.render(plan, stream=io.StringIO(), **options).splitlines()


def cells(line):
    return line.split()


def test_the_columns_of_the_interface():
    first = placement(chosen=True, num_nodes=3, accelerators="H100:8", use_spot=True)
    head, row, *rest = lines({"placements": [first], "more": 0})
    assert cells(head) == ["INFRA", "INSTANCE", "vCPUs", "Mem(GB)", "GPUS", "COST", "($)", "CHOSEN"]
    assert cells(row) == ["aws/us-east-1", "3x", "m.4[Spot]", "4", "15.25", "H100:8", "2.00", "✔"]
    assert rest == []


def test_the_cost_is_that_of_the_run_with_its_data():
    standing = {"price": 10.0, "data": 2.5, "expected_loss": 0.25, "hours": 5.5}
    plan = {"placements": [placement(standing=standing)], "more": 0}
    assert cells(lines(plan)[1])[-1] == "12.75"
    head, row = lines(plan, target="time")
    assert "TIME (hr)" in head and cells(row)[-1] == "5.50"


def test_places_are_shown_and_the_rest_is_counted():
    many = [placement(f"aws/r{number}") for number in range(30)]
    assert len([line for line in lines({"placements": many, "more": 0}) if line.startswith("aws/")]) == plans.ROWS
    shown = lines({"placements": many, "places": many[:2], "more": 5})
    assert "… and 33 more places" in shown[3]
    assert "… and at least 28 more places" in lines({"placements": many, "places": many[:2], "more": None})[3]


def test_what_is_not_enabled_is_marked_and_explained():
    shown = lines({"placements": [placement(), placement("gcp/r", enabled=False)], "more": 0})
    assert cells(shown[1])[0] == "aws/us-east-1"
    assert cells(shown[2])[0] == "gcp/r*"
    assert shown[3] == "* not enabled yet: `sky check CLOUD` tells how to get in."


@pytest.mark.parametrize(
    ("ages", "says"),
    [((1, 2), None), ((1, 40), "Prices seen 1 day ago to 1 mo ago;"), ((5, 5), "Prices seen 5 days ago;")],
)
def test_the_age_of_prices_is_told_where_it_matters(ages, says):
    told = [placement(observed=NOW - age * DAY) for age in ages]
    last = lines({"placements": told, "more": 0})[-1]
    assert last.startswith(says) if says else not last.startswith("Prices")
    assert not lines({"placements": [placement(observed=None)], "more": 0})[-1].startswith("Prices")


def test_what_is_reserved_is_told_since_it_costs_nothing_more():
    shown = lines({"placements": [placement(num_nodes=3, reserved_nodes=2), placement("gcp/r")], "more": 0})
    assert shown[3:] == ["aws/us-east-1: 2 of 3 nodes are reserved, and paid for."]


def test_data_has_its_line():
    plan = {"placements": [placement()], "more": 0, "data": "data: 1 TB from aws/us-east-1, $20, 13 min"}
    assert lines(plan)[-1] == plan["data"]


@pytest.mark.parametrize(
    ("reason", "line"),
    [
        ({"infra": "gcp/r", "instance_type": "a2", "reason": "34 % dearer", "remedy": ""}, "gcp/r a2: 34 % dearer"),
        ({"infra": "gcp", "instance_type": "*", "reason": "no A100", "remedy": "look"}, "gcp: no A100 (look)"),
        ({"infra": "*", "instance_type": "*", "reason": "nothing"}, "nothing"),
    ],
)
def test_reasons_are_one_line(reason, line):
    assert plans.reason_line(reason) == line


def test_the_shape_has_every_key_also_where_nothing_was_asked():
    told = plans.shape({"placements": [placement()], "rejections": [], "task": None})
    assert told["answers"] == told["comparisons"] == told["chances"] == told["rejections"] == []
    assert (told["data"], told["note"], told["task"]) == (None, None, None)
    assert told["placements"][0]["reserved_nodes"] is None


def test_a_file_of_several_tasks_is_a_dag(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.yaml").write_text("name: p\n---\nname: a\nrun: a\n---\nname: b\nrun: b\n")
    made = optimize.dag_of(("p.yaml",), {})
    assert [task.name for task in made.tasks] == ["a", "b"]


def test_targets_that_do_not_exist_are_refused_with_those_that_do():
    with pytest.raises(click.UsageError, match="'cost', 'time', 'expected'"):
        optimize.optimize.make_context("optimize", ["--minimize", "fame", "true"]).forward(optimize.optimize)
