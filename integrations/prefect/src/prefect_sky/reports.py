"""The artifact that a run leaves with Prefect: where it ran, how long, and what it cost. Called by the tasks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prefect_sky.runs import Outcome

if TYPE_CHECKING:
    import sky


def report(name: str, task: sky.Task, outcome: Outcome, seconds: float, why: str) -> None:
    """Create a markdown artifact; outside of runs nothing happens, and no failure of it fails the run."""
    from prefect.context import TaskRunContext  # noqa: PLC0415 - loaded by now

    if TaskRunContext.get() is None:
        return
    from prefect.artifacts import create_markdown_artifact  # noqa: PLC0415 - wanted at the end of a run

    from prefect_sky.tasks import run_logger  # noqa: PLC0415 - it imports this module

    cost = "cost unknown" if outcome.cost is None else f"{outcome.cost:.4f} USD"
    try:
        create_markdown_artifact(
            key=key_of(name),
            markdown=markdown(task.name or name, outcome, seconds, why),
            description=f"{outcome.status} on {outcome.infra or 'no place'}, {_time(seconds)}, {cost}",
        )
    except Exception as failed:  # noqa: BLE001 - the run itself has its outcome
        run_logger().warning("The artifact of '%s' could not be made: %s", outcome.cluster, failed)


def key_of(name: str) -> str:
    """Artifacts of one key are the versions of one thing: what this task cost over time."""
    return "sky-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "task")


def markdown(title: str, outcome: Outcome, seconds: float, why: str) -> str:
    """A table of what is known."""
    cost = "unknown" if outcome.cost is None else f"{outcome.cost:.4f} USD"
    rows = [
        ("Status", outcome.status),
        ("Cluster", f"`{outcome.cluster}`" + (", gone" if outcome.gone else "")),
        ("Job", "none" if outcome.job_id is None else str(outcome.job_id)),
        ("Infra", outcome.infra or "none"),
        ("Resources", outcome.resources or "none"),
        ("Until it ran", _time(outcome.launch_s)),
        ("Ran", _time(outcome.run_s)),
        ("In all", _time(seconds)),
        ("Cost", cost),
    ]
    table = "\n".join(f"| {word} | {_cell(value)} |" for word, value in rows if value)
    tail = f"\n\n{_cell(why)}\n" if why else "\n"
    return f"## {_cell(title)}\n\n| | |\n|---|---|\n{table}{tail}"


def _cell(text: str) -> str:
    return text[:500].replace("|", "\\|").replace("\n", " ")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
