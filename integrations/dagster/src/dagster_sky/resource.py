"""The resource: which API server, and a task run to its end in one call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dagster import AssetExecutionContext, ConfigurableResource, OpExecutionContext
from pydantic import Field

from dagster_sky.messages import LogLines
from dagster_sky.runs import SkyResult, complete, serving, telling
from dagster_sky.tasks import TaskLike, task_of


class SkyResource(ConfigurableResource[Any]):
    """Where a Sky API server is, and who is asking.

    `SkyResource(endpoint="https://sky.example.org", token=EnvVar("SKY_TOKEN"))`; without an endpoint, what the SDK does
    by itself: the environment, the login of `sky api login`, the configuration, a server on this machine.
    """

    endpoint: str | None = Field(default=None, description="http://HOST:PORT, https://HOST or unix:///PATH.")
    token: str | None = Field(
        default=None,
        description="A service account's token, or `user:password`. Give it as EnvVar: Dagster shows plain texts.",
        repr=False,
    )

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Send the SDK's calls inside this block, in this thread, to that server."""
        with serving(self.endpoint, self.token):
            yield

    def run(
        self,
        context: OpExecutionContext | AssetExecutionContext,
        task: TaskLike,
        *,
        env: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        check: bool = True,
        **options: Any,
    ) -> SkyResult:
        """Run a task to its end, its log in the step's output, and leave nothing behind.

        task: a `sky.Task`, the path of a task file, or what a task file holds. options: those of `sky.Run`, so
        `cluster_name`, `exec`, `keep`, `managed`, `name`, and those of `sky.launch`. Raises Failure for a job that did
        not succeed (unless `check` is false), and what its launch failed with.
        """
        lines = LogLines()
        with telling(), self.serving():
            import sky  # noqa: PLC0415 - definitions are loaded where nothing runs

            wanted = task_of(task, env, secrets)
            return complete(context, sky.Run(wanted, **named(context, wanted, options)), lines, check)


def named(context: OpExecutionContext | AssetExecutionContext, task: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with a name that says what it is for, if none is given: the task's, or the step's."""
    if "name" in options or "cluster_name" in options:
        return dict(options)
    step = getattr(context, "op_execution_context", context).op.name
    plain = "".join(each if each.isalnum() else "-" for each in task.name or step).strip("-").lower()[:30]
    return {"name": plain if plain[:1].isalpha() else f"step-{plain}", **options}
