"""A made-up world on both sides: as a catalog of ours, and as the CSV files that the reference implementation reads.

Not a benchmark of its own: `benchmarks/catalog.py` and `benchmarks/optimizer.py` ask both sides the same with it. The
reference knows its clouds by name, so clouds of the made-up world take the names of those whose files have one plain
format; what has no name there is left out on both sides.
"""

import csv
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

import worlds

from sky.core.model.catalog import InstanceType, Market, Price, Row, Source
from sky.store.catalog.generations import Generations
from sky.store.catalog.merge import Fresh, rebuild

#: Offers of a full world (`worlds.world`), of which both sides get most.
WHOLE = 301_000
#: Where the reference keeps its files below the home folder: one folder per cloud.
FILES = ".sky/catalogs/v8"
BIG = ("aws", "azure", "oci")
MIDDLE = ("nebius", "ibm", "lambda", "do")
SMALL = (
    "runpod", "vast", "cudo", "fluidstack", "paperspace", "primeintellect", "hyperbolic", "shadeform", "seeweb",
    "yotta", "mithril", "verda", "scp",
)  # fmt: skip
COLUMNS = (
    "InstanceType", "vCPUs", "MemoryGiB", "AcceleratorName", "AcceleratorCount", "GpuInfo", "Region",
    "AvailabilityZone", "Price", "SpotPrice", "Arch",
)  # fmt: skip


def names() -> dict[str, str]:
    """Clouds of the world by the name they take here."""
    ranks = (BIG, MIDDLE, SMALL)
    made = worlds.clouds()
    begins = (0, len(worlds.BIG), len(worlds.BIG) + len(MIDDLE))
    return {name: made[begin + n] for begin, rank in zip(begins, ranks, strict=True) for n, name in enumerate(rank)}


def world(size: float) -> dict[str, list[Row]]:
    """The rows that both sides get, by the reference's name of the cloud; `size` as in `worlds.world`."""
    return {name: [_named(row, name) for row in worlds.rows(cloud, size=size)] for name, cloud in names().items()}


def _named(row: Row, cloud: str) -> Row:
    # Fetched just now: a catalog that is older than the seed of this package would give way to it.
    return row._replace(cloud=cloud, fetched=time.time()) if isinstance(row, Source) else row._replace(cloud=cloud)


def both(folder: Path, size: float) -> tuple[Generations, Path, int]:
    """The same world as our catalog and as a home folder of the reference; and how many offers it has.

    Ours is the catalog of the state folder `folder / "ours"`.
    """
    rows = world(size)
    generations = Generations(folder / "ours" / "catalog", None)
    rebuild(generations, {cloud: Fresh(each) for cloud, each in rows.items()})
    home = folder / "home"
    write(rows, home)
    return generations, home, sum(isinstance(row, Price) for each in rows.values() for row in each)


def write(rows: dict[str, list[Row]], home: Path) -> None:
    """Write the files of all clouds below a home folder."""
    for cloud, each in rows.items():
        made = _lines(each)
        # Where it finds the column of zones it passes over lines without one.
        zoned = all(line["AvailabilityZone"] for line in made)
        _file(home / FILES / cloud / "vms.csv", [name for name in COLUMNS if zoned or name != "AvailabilityZone"], made)
    sold: dict[str, list[str]] = {}
    for cloud, each in rows.items():
        for name in {row.accelerator for row in each if isinstance(row, InstanceType) and row.accelerator}:
            sold.setdefault(name, []).append(cloud)
    # By this one it finds the right spelling of an accelerator.
    lines = [{"AcceleratorName": name, "Clouds": clouds} for name, clouds in sorted(sold.items())]
    _file(home / FILES / "common" / "accelerators.csv", ["AcceleratorName", "Clouds"], lines)


def _file(path: Path, columns: list[str], lines: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)


def _lines(rows: list[Row]) -> list[dict[str, object]]:
    types = {row.name: row for row in rows if isinstance(row, InstanceType)}
    lines: dict[tuple[str, str, str | None], dict[str, object]] = {}
    for row in rows:
        if isinstance(row, Price):
            line = lines.setdefault((row.instance_type, row.region, row.zone), _line(types[row.instance_type], row))
            line["SpotPrice" if row.market == Market.SPOT else "Price"] = row.price
    return list(lines.values())


def _line(made: InstanceType, price: Price) -> dict[str, object]:
    line: dict[str, object] = {
        "InstanceType": made.name, "vCPUs": made.cpus, "MemoryGiB": made.memory_gib, "Region": price.region,
        "AvailabilityZone": price.zone, "Arch": made.arch,
    }  # fmt: skip
    if made.accelerator:
        memory = {"SizeInMiB": int((made.accelerator_memory_gib or 0) * 1024)}
        gpu = {"Name": made.accelerator, "Count": made.accelerator_count, "MemoryInfo": memory}
        line |= {
            "AcceleratorName": made.accelerator, "AcceleratorCount": made.accelerator_count,
            "GpuInfo": str({"Gpus": [gpu], "TotalGpuMemoryInMiB": memory["SizeInMiB"]}),
        }  # fmt: skip
    return line


def command(python: str, *question: str) -> list[str]:
    """The command that asks the reference; see `reference_catalog.py` for the questions."""
    return [python, str(Path(__file__).with_name("reference_catalog.py")), *question]


def environment(home: Path) -> dict[str, str]:
    """An environment in which the reference reads what `write` wrote, and sends nothing anywhere."""
    env = {**os.environ, "HOME": str(home), "SKYPILOT_DISABLE_USAGE_COLLECTION": "1"}
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "SKY_RUNTIME_DIR"):
        env.pop(name, None)
    return env


def ask(python: str, home: Path, *question: str) -> dict[str, Any]:
    """Its answer, with the median of its times as `ms`."""
    done = subprocess.run(
        command(python, *question), capture_output=True, text=True, env=environment(home), check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**answer, "ms": statistics.median(answer["ms"])}


def beside(ours: float, theirs: float) -> dict[str, float]:
    """Two times in milliseconds as they are printed."""
    return {"ours (ms)": round(ours, 3), "reference (ms)": round(theirs, 1), "times faster": round(theirs / ours, 1)}
