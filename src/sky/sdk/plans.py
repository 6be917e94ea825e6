"""Plans: where tasks would run, why there and in which order, and why not elsewhere. What `sky.optimize` calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sky.sdk import settings
from sky.sdk.clusters import blocked_of, config_of, tasks_of, word_of
from sky.sdk.ids import RequestId
from sky.sdk.records import PlanRecord
from sky.sdk.requests import get, read


def optimize(
    dag: Any,
    minimize: Any = "COST",
    admin_policy_request_options: Any = None,
    *,
    explain: bool = False,
    why_not: Sequence[str] | None = None,
    what_if: Sequence[str] | None = None,
    when: bool = False,
    all_infra: bool = False,
) -> RequestId[list[PlanRecord]]:
    """Where the tasks of a task or DAG would run. Value: one plan per task, its best placement first.

    minimize: COST, TIME, or EXPECTED, which weighs prices with the chance of refusal and preemption. explain: for every
    place, why it was not chosen. why_not: the same for patterns of infra (`aws/eu-*`), instance types or accelerators.
    what_if: changes to compare with: `spot`, `on-demand`, `infra=gcp`, `region=us-east-1`. when: chances learnt from
    what places answered before. all_infra: plan also over places that cannot be used yet; they are marked.
    """
    body = {**_dag_config(dag), "minimize": word_of(minimize), "config": settings.layers()}
    if any(blocked := [blocked_of(task) for task in tasks_of(dag)]):
        body["blocked_resources"] = blocked
    if any(getattr(task, "has_time_estimator", False) for task in tasks_of(dag)):
        body["estimates"] = _estimates(dag, {**body, "all_infra": all_infra})
    questions = {"explain": explain, "why_not": why_not, "what_if": what_if, "when": when, "all_infra": all_infra}
    body |= {key: list(value) if isinstance(value, Sequence) else value for key, value in questions.items() if value}
    return read("optimize", body)


def validate(dag: Any, workdir_only: bool = False, admin_policy_request_options: Any = None) -> None:
    """Check a task or DAG here and (unless `workdir_only`) on the server. Raises what is wrong with it."""
    for task in tasks_of(dag):
        check = getattr(task, "validate", None)
        if check is not None:
            check()
    if not workdir_only:
        get(read("validate", _dag_config(dag)))


def _dag_config(dag: Any) -> dict[str, Any]:
    """The canonical configuration of a DAG; a list of tasks is a DAG without edges."""
    if hasattr(dag, "tasks") and hasattr(dag, "to_spec"):
        told: dict[str, Any] = dag.to_spec().to_config()
        return told
    return {"tasks": [config_of(task) for task in tasks_of(dag)]}


def _estimates(dag: Any, body: Mapping[str, Any]) -> list[dict[str, float]]:
    """Seconds by `cloud/instance_type` for each task: the estimator is a function here, so it is asked here.

    The server tells which types could be taken; what the estimator raises is the caller's to see.
    """
    from sky.core.model.resources import Resources  # noqa: PLC0415 - only those with an estimator need it

    types: list[list[dict[str, Any]]] = get(read("optimize_types", body))
    found: list[dict[str, float]] = []
    for task, candidates in zip(tasks_of(dag), types, strict=True):
        estimates: dict[str, float] = {}
        if getattr(task, "has_time_estimator", False):
            for each in candidates:
                asked = {key: each[key] for key in ("cloud", "instance_type", "accelerators", "use_spot")}
                estimates[f"{each['cloud']}/{each['instance_type']}"] = float(task.estimate_runtime(Resources(**asked)))
        found.append(estimates)
    return found
