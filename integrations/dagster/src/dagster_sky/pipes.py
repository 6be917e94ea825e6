"""The Pipes client: a task anywhere that reports to Dagster itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dagster import (
    AssetExecutionContext,
    OpExecutionContext,
    PipesClient,
    PipesClientCompletedInvocation,
    PipesContextInjector,
    PipesEnvContextInjector,
    PipesMessageReader,
    open_pipes_session,
)
from dagster._core.definitions.resource_annotation import TreatAsResourceParam  # as every client of Pipes does

from dagster_sky.messages import LogLines, SkyLogMessageReader
from dagster_sky.resource import named
from dagster_sky.runs import complete, serving, telling
from dagster_sky.tasks import TaskLike, plain, task_of

#: Linux lets no single variable be longer.
_MOST_BYTES = 128 * 1024 - 64


class SkyPipesClient(PipesClient, TreatAsResourceParam):
    """Runs a task on any infra within a session of Dagster Pipes.

    endpoint, token: which API server, as of `SkyResource`; both may be `EnvVar`. env, secrets: variables of every run.
    context_injector, message_reader: other ways for the context and the messages, such as a bucket; by default the
    context travels as variables of the task and messages come back through the log of the job.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        token: str | None = None,
        *,
        env: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        context_injector: PipesContextInjector | None = None,
        message_reader: PipesMessageReader | None = None,
    ) -> None:
        self._endpoint, self._token = endpoint, token
        self._env, self._secrets = dict(env or {}), dict(secrets or {})
        self._context_injector = context_injector or PipesEnvContextInjector()
        self._message_reader = message_reader

    def run(  # type: ignore[override]
        self,
        *,
        context: OpExecutionContext | AssetExecutionContext,
        task: TaskLike,
        extras: Mapping[str, Any] | None = None,
        env: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> PipesClientCompletedInvocation:
        """Run a task to its end and leave nothing behind; its metadata goes with what the task reports.

        task, options: as of `SkyResource.run`. Raises Failure for a job that did not succeed, and what its launch
        failed with.
        """
        # A reader serves one session, and one client many at a time.
        reader = self._message_reader or SkyLogMessageReader()
        with (
            telling(),
            serving(plain(self._endpoint), plain(self._token)),
            open_pipes_session(
                context=context,
                context_injector=self._context_injector,
                message_reader=reader,
                extras=dict(extras or {}),
            ) as session,
        ):
            import sky  # noqa: PLC0415 - definitions are loaded where nothing runs

            # As secrets, for extras are nobody else's and need not be kept in the server's records.
            bootstrap = _bounded(session.get_bootstrap_env_vars())
            wanted = task_of(task, {**self._env, **(env or {})}, {**self._secrets, **(secrets or {}), **bootstrap})
            lines = LogLines(reader if isinstance(reader, SkyLogMessageReader) else None)
            result = complete(context, sky.Run(wanted, **named(context, wanted, options)), lines)
        return PipesClientCompletedInvocation(session, metadata=result.metadata)


def _bounded(variables: Mapping[str, str]) -> dict[str, str]:
    for name, value in variables.items():
        if len(value) + len(name) > _MOST_BYTES:
            raise ValueError(
                f"The context of this step is too long for a variable ({len(value)} bytes in {name}): pass fewer "
                "extras, or give the client a context_injector that writes to a bucket."
            )
    return dict(variables)
