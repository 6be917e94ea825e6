"""`sky simulate`: what a job with a deadline would have cost under several policies. Needs no server."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sky.cli import exit_codes, options, tables
from sky.cli.output import emit
from sky.cli.terminal import Progress, say, talk
from sky.core.model.quantities import parse_duration_seconds
from sky.core.policy.catalogue import DEFAULT, POLICIES

if TYPE_CHECKING:
    from sky.sim.markets import Market
    from sky.sim.simulate import Job
    from sky.sim.trials import Row

#: Where nothing says how much work there is: this share of the deadline, as in the published settings.
WORK_SHARE = 0.8
RULES = ("ours", "cant-be-late", "skynomad")
_COLUMNS = ("POLICY", "COST", "WORST", "OVER OPTIMUM", "FINISH", "KEPT", "PREEMPTIONS", "ON-DEMAND", "SPOT")
_HOUR = 3600.0


class Duration(click.ParamType[float]):
    """A duration of the command line: 60h, 12m, 90 (seconds); arrives as seconds above zero."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds."""
        if isinstance(value, float):
            return value
        try:
            seconds = parse_duration_seconds(value)
        except ValueError as exc:
            self.fail(str(exc), param, ctx)
        if seconds <= 0:
            self.fail(f"found {value!r}; allowed: a duration above zero, as 60h or 12m", param, ctx)
        return seconds


class Names(click.ParamType[tuple[str, ...]]):
    """A list with commas of known policies."""

    name = "policies"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names, each once."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(word.strip() for word in str(value).split(",") if word.strip()))
        for name in names:
            if name not in POLICIES:
                self.fail(f"{name!r} is no policy. There are: {', '.join(POLICIES)}", param, ctx)
        return names or self.fail("no policy is named", param, ctx)


@options.command(
    "simulate", help="Show what ENTRYPOINT would have cost with a deadline, on recorded or made-up markets."
)
@options.entrypoint
@click.option("--traces", type=click.Path(path_type=Path), help="Folder, tar archive or file of recorded spot markets.")
@click.option("--seeds", type=click.IntRange(1, 100_000), help="Play on so many generated markets instead.")
@click.option("--deadline", type=Duration(), required=True, help="Time from submission to deadline: 60h.")
@click.option(
    "--work", type=Duration(), help="Time that the work takes on one machine kept: 48h (0.8 of the deadline)."
)
@click.option("--restart-overhead", type=Duration(), default="12m", show_default=True, help="Time a restart costs.")
@click.option("--policy", type=Names(), default=f"{DEFAULT},uniform-progress,greedy,on-demand", show_default=True,
              help="Policies, with commas.")  # fmt: skip
@click.option("--zones", help="Only these zones, with commas.")
@click.option("--each-zone", is_flag=True, help="Each zone is a market of its own.")
@click.option(
    "--starts", type=click.IntRange(min=1), default=24, show_default=True, help="Starts per market, evenly spread."
)
@click.option("--every-start", is_flag=True, help="Start at every tick.")
@click.option("--data", type=click.FloatRange(min=0), default=0.0, help="GB that move with the job between regions.")
@click.option(
    "--rules", type=click.Choice(RULES), default=RULES[0], help="How time and money are reckoned; docs/policies.md."
)
@click.option("--polarity", type=click.Choice(["auto", "available", "preempted"]), default="auto",
              help="What 1 means in traces that do not tell.")  # fmt: skip
@click.option("--spot-price", type=click.FloatRange(min=0), help="USD per hour where traces name none.")
@click.option("--on-demand-price", type=click.FloatRange(min=0), help="USD per hour where traces name none.")
@click.option("--no-optimum", is_flag=True, help="Leave out what somebody would pay who knew the market in advance.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a plot: FILE.svg or FILE.png.")
@options.output
def simulate(entrypoint: tuple[str, ...], *, form: str, plot: Path | None, **flags: Any) -> int:
    """Play, and show a table."""
    from sky.sim import plots, trials  # noqa: PLC0415 - other commands are spared it
    from sky.sim import simulate as play

    if (flags["traces"] is None) == (flags["seeds"] is None):
        raise click.UsageError("Name either --traces or --seeds: recorded markets, or generated ones.")
    if plot is not None:
        plots.check(plot)
    name, nodes = _task(entrypoint)
    with Progress("Reading traces…"):
        markets = _markets(flags, nodes)
    job = _job(flags)
    rules = {"ours": play.OURS, "cant-be-late": play.CANT_BE_LATE, "skynomad": play.SKYNOMAD}[flags["rules"]]
    with Progress("Playing…"):
        rows = trials.compare(
            markets, job, flags["policy"], count=None if flags["every_start"] else flags["starts"], rules=rules,
            optimum=not flags["no_optimum"],
        )  # fmt: skip
    if plot is not None:
        plots.spread(rows, plot, f"{name}: {job.work / _HOUR:g} h of work, deadline {job.deadline / _HOUR:g} h")
        talk(f"The plot is in {plot}.")
    if form != "table":
        emit([_shape(row) for row in rows], form)
    else:
        _show(rows, job, markets)
    return exit_codes.OK


def _task(words: tuple[str, ...]) -> tuple[str, int]:
    """Return the name of what is simulated and its number of nodes, which must be had together."""
    if not words:
        return "job", 1
    from sky.cli.launch import task_of  # noqa: PLC0415 - not needed without a task

    task: Any = task_of(words, {})
    return task.name or "job", task.num_nodes or 1


def _markets(flags: dict[str, Any], nodes: int) -> "list[Market]":
    from sky.sim.markets import Market, generated  # noqa: PLC0415 - other commands are spared it
    from sky.sim.traces import Reading, load  # noqa: PLC0415

    if flags["seeds"] is not None:
        ticks = max(720, 2 * round(flags["deadline"] / 600))
        markets = [generated(seed, ticks=ticks) for seed in range(flags["seeds"])]
    else:
        reading = Reading(flags["polarity"], nodes, flags["spot_price"], flags["on_demand_price"])
        markets = load(flags["traces"], reading)
    if flags["zones"]:
        markets = [market.only([zone.strip() for zone in flags["zones"].split(",")]) for market in markets]
    if flags["each_zone"]:
        markets = [
            Market(f"{market.name} {zone.zone}", market.gap, (zone,)) for market in markets for zone in market.zones
        ]
    return markets


def _job(flags: dict[str, Any]) -> "Job":
    from sky.sim.markets import Transfers  # noqa: PLC0415 - other commands are spared it
    from sky.sim.simulate import Job  # noqa: PLC0415

    work, deadline, overhead = flags["work"], flags["deadline"], flags["restart_overhead"]
    if work is None:
        work = deadline * WORK_SHARE
        talk(f"No --work is given: taken as {work / _HOUR:g} h, {WORK_SHARE:.0%} of the deadline.")
    if work + overhead > deadline:
        talk("Not even on-demand ends in time: work and one start take longer than the deadline.", "yellow")
    # 1 Gbit/s between regions, of which half arrives.
    return Job(
        work, deadline, overhead, Transfers(flags["data"], seconds_per_gb=16.0 if flags["rules"] == "ours" else 0.0)
    )


def _show(rows: "Sequence[Row]", job: "Job", markets: "Sequence[Market]") -> None:
    plays = rows[0].plays
    hours = f"{job.work / _HOUR:g} h of work in {job.deadline / _HOUR:g} h"
    talk(f"{hours}, {plays} starts on {len(markets)} market{'s' if len(markets) != 1 else ''}; means per job:")
    cells = [
        [
            row.policy,
            f"$ {row.cost:,.2f}",
            f"$ {row.worst:,.2f}",
            "-" if row.gap is None else f"{row.gap:+.1%}",
            f"{row.finish / _HOUR:.1f} h",
            f"{row.kept:.1%}",
            f"{row.preemptions:.1f}",
            f"{row.on_demand / _HOUR:.1f} h",
            f"{row.spot / _HOUR:.1f} h",
        ]
        for row in rows
    ]
    say(tables.render(_COLUMNS, cells, right=_COLUMNS[1:]))


def _shape(row: "Row") -> dict[str, object]:
    """Return a row as `-o json` promises it: USD and seconds."""
    return {
        "policy": row.policy,
        "plays": row.plays,
        "cost": row.cost,
        "worst_cost": row.worst,
        "over_optimum": row.gap,
        "finish": row.finish,
        "kept": row.kept,
        "preemptions": row.preemptions,
        "on_demand": row.on_demand,
        "spot": row.spot,
    }
