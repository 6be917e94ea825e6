"""Where a task would run, as a user asks and reads it: the installed command, the seed that comes with it."""

import json
import re
import subprocess
import sys
import textwrap

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

COLUMNS = ["INFRA", "INSTANCE", "vCPUs", "Mem(GB)", "GPUS", "COST ($)", "CHOSEN"]


@pytest.fixture
def sky(shared_sky):
    """One server for the file."""
    yield shared_sky
    for each in (shared_sky.root / ".sky" / "catalog.d").glob("*"):
        each.unlink()
    (shared_sky.root / ".sky" / "config.yaml").unlink(missing_ok=True)


@pytest.fixture
def file(sky):
    def write(content, name="task.yaml"):
        path = sky.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content))
        return name

    return write


def table(text):
    """Rows of the candidates table, each by column."""
    head, *rest = text.splitlines()
    starts = [head.index(column) for column in COLUMNS[:2]]
    assert re.split(r"  +", head.strip()) == COLUMNS
    rows = []
    for line in rest:
        if line.startswith(("…", "*", "Prices", "data:", "Dry")) or not line.strip():
            break
        infra, others = line[: starts[1]].strip(), re.split(r"  +", line[starts[1] :].strip())
        rows.append([infra, *others])
    return rows


# --- the table -------------------------------------------------------------------------------------------------------


def test_the_dry_run_shows_the_table_and_marks_what_is_not_enabled(sky):
    done = sky.good("launch", "--dryrun", "--all-infra", "--gpus", "H100:8")
    rows = table(done.stderr or done.stdout)
    assert rows[0][-1] == "✔" and all(row[-1] != "✔" for row in rows[1:])
    assert all(row[0].endswith("*") for row in rows), "nothing but this machine is enabled"
    assert all("H100:8" in row for row in rows)
    costs = [float(row[5]) for row in rows]
    assert costs == sorted(costs) and costs[0] > 0
    assert "* not enabled yet: `sky check CLOUD`" in done.stderr + done.stdout
    assert "Dry run: nothing was changed." in done.stderr + done.stdout
    assert sky.json("status") == []


def test_without_all_infra_only_what_can_be_used(sky):
    rows = table(sky.good("optimize", "--cpus", "1+").stdout)
    assert [row[0] for row in rows] == ["local"]
    done = sky("optimize", "--gpus", "H100:8")
    assert done.returncode == 1 and done.stdout == ""
    assert re.search(r"nearest: enable \w+: \S+ in \S+, \$\d+ per hour", done.stderr)


def test_the_shape_for_programs(sky):
    for words in (("launch", "--dryrun"), ("optimize",)):
        told = json.loads(sky.good(*words, "--all-infra", "--gpus", "H100:8", "-o", "json").stdout)
        (plan,) = told
        first = plan["placements"][0]
        assert {"infra", "instance_type", "num_nodes", "cpus", "memory_gb", "accelerators", "use_spot", "price_hourly",
                "chosen", "enabled", "reserved_nodes", "quality", "observed", "standing"} == set(first)  # fmt: skip
        assert (first["chosen"], first["enabled"], first["standing"]["why"]) == (True, False, "the cheapest")
        assert [each["chosen"] for each in plan["placements"][1:]] == [False] * (len(plan["placements"]) - 1)
        prices = [each["price_hourly"] for each in plan["placements"]]
        assert prices == sorted(prices)


def test_on_a_narrow_terminal_and_in_a_pipe(sky):
    sky.env["COLUMNS"] = "60"
    piped = sky.good("optimize", "--gpus", "H100:8", "--all-infra").stdout
    del sky.env["COLUMNS"]
    assert "\x1b" not in piped and "…\n" not in piped.replace("… and", "")
    assert table(piped)


# --- questions -------------------------------------------------------------------------------------------------------


def test_why_not_what_if_and_when(sky):
    done = sky.good("optimize", "--gpus", "A100:8", "--all-infra", "--explain", "--why-not", "p4d.24xlarge",
                    "--why-not", "lambda/us-west-1", "--why-not", "lambda/us-east-9", "--what-if", "infra=gcp",
                    "--what-if", "spot", "--when")  # fmt: skip
    why = done.stdout.split("Why not elsewhere:\n")[1].split("\nWhat if:")[0].splitlines()
    assert re.match(r"  aws/\S+ p4d\.24xlarge: \d+ % dearer than the choice", why[0])
    assert "lambda/us-east-9" in why[2] and "no A100:8 in lambda/us-east-9" in why[2]
    clouds = [line.split("/")[0].split(":")[0].split()[0] for line in why[3:]]
    assert clouds == sorted(clouds) and {"aws", "gcp", "azure", "local"} <= set(clouds), "one line for every place"
    what_if = done.stdout.split("\nWhat if:\n")[1].splitlines()
    assert re.match(r"  infra=gcp: a2-highgpu-8g in gcp/\S+, \$\d+: \d+ % dearer", what_if[0])
    assert what_if[1].startswith("  spot: ")
    assert "not known: machines were not asked for there" in done.stdout.split("\nWhen:\n")[1]
    told = json.loads(sky.good("optimize", "--gpus", "A100:8", "--all-infra", "--explain", "-o", "json").stdout)[0]
    codes = {each["code"] for each in told["answers"]}
    assert {"dearer", "accelerators"} <= codes
    assert all(each["asked"] and each["found"] for each in told["answers"] if each["code"] == "dearer")


def test_time_and_expected_cost(sky):
    by_time = sky.good("optimize", "--gpus", "A100:8", "--all-infra", "--minimize", "time").stdout
    assert "TIME (hr)" in by_time.splitlines()[0]
    assert by_time.splitlines()[1].rstrip().endswith("✔")
    spot = json.loads(
        sky.good("optimize", "--gpus", "H100:8", "--use-spot", "--all-infra", "--minimize", "expected", "-o", "json")
        .stdout
    )[0]["placements"][0]["standing"]  # fmt: skip
    assert spot["expected_loss"] > 0
    assert spot["objective"] == pytest.approx(spot["price"] + spot["data"] + spot["expected_loss"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--gpus", "H10O:8"), "no accelerator is called H10O; did you mean"),
        (("--infra", "aws/us-eats-1"), "did you mean us-east-1"),
        (("--infra", "asw"), "did you mean 'aws'"),
        (("-t", "p4d.25xlarge"), "did you mean p4d.24xlarge"),
        (("-t", "p4d.24xlarge", "--gpus", "H100:8"), "beside instance_type: p4d.24xlarge, which has A100:8"),
        (("-t", "p4d.24xlarge", "--cpus", "200"), "p4d.24xlarge"),
        (("--gpus", "H100:8", "--why-not", "nonsense"), "--why-not: found 'nonsense'"),
        (("--gpus", "H100:8", "--what-if", "nonsense"), "--what-if: found 'nonsense'"),
    ],
)
def test_what_is_wrong_is_named(sky, words, says):
    done = sky("optimize", "--all-infra", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


# --- what a task may ask for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "holds"),
    [
        ("{accelerators: '80GB+:8'}", lambda each: each["accelerators"].endswith(":8")),
        ("{accelerators: 'nvidia:24GB+:2'}", lambda each: each["accelerators"].endswith(":2")),
        ("{accelerators: 'A100:8', max_hourly_cost: 25}", lambda each: each["price_hourly"] <= 25),
        ("{accelerators: 'H100:8', use_spot: true}", lambda each: each["use_spot"]),
        ("{cpus: 8+, memory: 64+, infra: 'gcp/*'}", lambda each: each["memory_gb"] >= 64 and each["cpus"] >= 8),
        ("{accelerators: 'A100:8', local_disk: 'nvme:1000+', infra: aws}", lambda each: each["infra"][:3] == "aws"),
        ("{infra: 'aws/*/us-east-1b', cpus: 4+}", lambda each: each["infra"] == "aws/us-east-1/us-east-1b"),
        ("{accelerators: {T4: 1, L4: 1}}", lambda each: each["accelerators"] in ("T4:1", "L4:1")),
        ("{any_of: [{infra: aws}, {infra: gcp}], cpus: 4}", lambda each: each["infra"][:3] in ("aws", "gcp")),
    ],
)
def test_requests_are_met(sky, file, resources, holds):
    name = file(f"resources: {resources}\nrun: 'true'\n")
    placements = json.loads(sky.good("optimize", name, "--all-infra", "-o", "json").stdout)[0]["placements"]
    assert placements
    assert all(holds(each) for each in placements)


def test_ordered_alternatives_beat_the_price(sky, file):
    name = file(
        """
        resources:
          ordered:
            - {infra: gcp, accelerators: "H100:8"}
            - {infra: aws, accelerators: "A100:8"}
        run: "true"
        """
    )
    rows = table(sky.good("optimize", name, "--all-infra").stdout)
    assert rows[0][0].startswith("gcp/") and rows[0][-1] == "✔"
    assert any(float(row[5]) < float(rows[0][5]) for row in rows[1:])


# --- own rows and data -----------------------------------------------------------------------------------------------


def test_overrides_change_the_plan_at_once_and_a_broken_file_is_named(sky, file):
    ask = ("optimize", "--gpus", "A100:8", "--all-infra")
    first = table(sky.good(*ask).stdout)[0]
    cloud = first[0].partition("/")[0]
    file(
        f"""
        [[deny]]
        infra = "{cloud}"
        reason = "not for us"

        [[offer]]
        infra = "basement/rack1"
        instance_type = "rig"
        cpus = 64
        memory = 512
        accelerators = "A100:8"
        price = 0.5
        """,
        ".sky/catalog.d/own.toml",
    )
    told = sky.good(*ask, "--why-not", cloud, "--why-not", "basement").stdout
    assert table(told)[0][:2] == ["basement/rack1*", "rig"]
    own = sky.root / ".sky" / "catalog.d" / "own.toml"
    assert f"not for us ({own}:2)" in told
    assert "basement/rack1 rig: this is the choice" in told
    file("cloud,instance_type,market,price\naws,p4d.24xlarge,on_demand\n", ".sky/catalog.d/prices.csv")
    broken = sky(*ask)
    assert broken.returncode == 1
    assert f"{sky.root}/.sky/catalog.d/prices.csv:2: found 3 cells; the header has 4" in broken.stderr
    assert sky("status").returncode == 0, "what does not plan goes on"
    file("cloud,instance_type,market,price\naws,p4d.24xlarge,on_demand,0.25\n", ".sky/catalog.d/prices.csv")
    own.unlink()
    assert table(sky.good(*ask).stdout)[0][1:2] == ["p4d.24xlarge"]
    assert table(sky.good(*ask).stdout)[0][5] == "0.25"


def test_data_is_one_line_and_part_of_the_cost(sky, file):
    file("data: {buckets: {'s3://raw': {region: us-east-1, size: 1.2TB}}}\n", ".sky/config.yaml")
    name = file("resources: {infra: gcp, accelerators: 'A100:8'}\nfile_mounts: {/raw: 's3://raw'}\nrun: 'true'\n")
    shown = sky.good("optimize", name, "--all-infra").stdout
    (line,) = [each for each in shown.splitlines() if each.startswith("data: ")]
    assert re.match(r"data: 1\.2 TB from aws/us-east-1, \$\d+, \d+ min", line)
    told = json.loads(sky.good("optimize", name, "--all-infra", "-o", "json").stdout)[0]
    assert told["data"] == line
    first = told["placements"][0]
    assert first["standing"]["data"] > 50
    assert float(table(shown)[0][5]) == pytest.approx(first["price_hourly"] + first["standing"]["data"], abs=0.01)


def test_allowed_clouds(sky, file):
    file("allowed_clouds: [aws]\n", ".sky/config.yaml")
    done = sky("optimize", "--cpus", "1+")
    assert done.returncode == 1
    assert "allowed_clouds in your configuration leaves aws" in done.stderr


# --- several tasks ---------------------------------------------------------------------------------------------------

PIPELINE = """
    name: pipe
    ---
    name: prep
    resources: {infra: aws/us-east-1, cpus: 8}
    outputs: {s3://mid: 5000}
    run: a
    ---
    name: train
    resources: {accelerators: "H100:8"}
    run: b
"""
GROUP = """
    name: group
    execution: parallel
    ---
    name: serve
    resources: {cpus: 8}
    run: a
    ---
    name: train
    resources: {accelerators: "A100:8"}
    run: b
"""


def test_a_pipeline_is_planned_as_one(sky, file):
    shown = sky.good("optimize", file(PIPELINE), "--all-infra", "--why-not", "runpod").stdout
    prep, train = shown.split("Task train:\n")
    assert prep.startswith("Task prep:\n")
    rows = table(train)
    assert rows[0][0].startswith("aws/") and rows[0][-1] == "✔", "5 TB are dearer to move than the machine"
    assert [float(row[5]) for row in rows] == sorted(float(row[5]) for row in rows)
    assert re.search(r"  runpod/\S+ \S+: \d+ % dearer than the choice", train)
    alone = file('resources: {accelerators: "H100:8"}\nrun: b\n', "alone.yaml")
    assert not table(sky.good("optimize", alone, "--all-infra").stdout)[0][0].startswith("aws/")


def test_a_group_comes_together(sky, file):
    plans = json.loads(sky.good("optimize", file(GROUP), "--all-infra", "-o", "json").stdout)
    assert [plan["task"] for plan in plans] == ["serve", "train"]
    first, second = ("/".join(plan["placements"][0]["infra"].split("/")[:2]) for plan in plans)
    assert first == second
    assert plans[0]["note"] == plans[1]["note"] == f"all tasks together: $22, all 2 tasks in {first}"
    shown = sky.good("optimize", file(GROUP), "--all-infra").stdout
    assert shown.endswith(f"all 2 tasks in {first}\n")


def test_the_task_that_fits_nowhere_is_named(sky, file):
    done = sky("optimize", file(PIPELINE.replace("H100:8", "H100:77")), "--all-infra")
    assert done.returncode == 1
    assert "No place for the task train: " in done.stderr and "nearest: take H100:8" in done.stderr


# --- the SDK ---------------------------------------------------------------------------------------------------------


def test_time_estimators_and_placements_as_resources(sky):
    program = """
    import json, sky
    with sky.Dag() as dag:
        task = sky.Task("train", run="true")
        task.set_resources({sky.Resources(accelerators="A100:8", infra="aws"),
                            sky.Resources(accelerators="H100:8", infra="aws")})
        task.set_time_estimator(lambda r: 600 if "H100" in str(r.accelerators) else 36000)
    from sky.sdk import plans
    fast = sky.get(plans.optimize(dag, minimize=sky.OptimizeTarget.TIME, all_infra=True))[0]
    cheap = sky.get(plans.optimize(dag, minimize=sky.OptimizeTarget.COST, all_infra=True, explain=True))[0]
    task.set_time_estimator(lambda r: 3600)
    same = sky.get(plans.optimize(dag, all_infra=True))[0]
    first = same["placements"][0]
    print(json.dumps({
        "fast": fast["placements"][0], "cheap": cheap["placements"][0], "same": first,
        "answers": len(cheap["answers"]), "cost": first.resources().get_cost(3600),
    }))
    try:
        sky.get(sky.optimize(dag, minimize=sky.OptimizeTarget.TIME))
    except sky.exceptions.ResourcesUnavailableError as error:
        print(json.dumps(str(error)))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=sky.env, cwd=sky.root, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told, refused = map(json.loads, done.stdout.splitlines())
    assert told["fast"]["accelerators"] == told["cheap"]["accelerators"] == "H100:8"
    assert told["fast"]["standing"]["hours"] == pytest.approx(1 / 6)
    assert told["cheap"]["standing"]["price"] == pytest.approx(told["cheap"]["price_hourly"] / 6)
    assert told["same"]["accelerators"] == "A100:8", "as long on both, the cheaper one"
    assert told["answers"] > 5
    assert told["cost"] == pytest.approx(told["same"]["price_hourly"])
    assert "No place for" in refused
