"""Sensors: a cluster that is to be in a state, and a job that somebody else began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue
from airflow.sdk.configuration import conf

from airflow_sky import runs
from airflow_sky.hooks import DEFAULT_CONN_ID, SkyHook
from airflow_sky.operators import SkyJobFailed

if TYPE_CHECKING:
    from airflow.sdk import Context


class SkyClusterSensor(BaseSensorOperator):
    """Waits until a cluster is in `status` (UP, STOPPED, INIT; GONE: until there is none of this name)."""

    template_fields: Sequence[str] = ("cluster_name", "status", "sky_conn_id")

    def __init__(
        self, *, cluster_name: str, status: str = "UP", sky_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.cluster_name = cluster_name
        self.status = status
        self.sky_conn_id = sky_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

        with SkyHook(self.sky_conn_id).serving():
            found = sky.get(sky.status([self.cluster_name]))
        now = str(found[0].status.value) if found else "GONE"
        self.log.info("Cluster '%s' is %s.", self.cluster_name, now)
        return PokeReturnValue(now == self.status.upper(), xcom_value=now)


class SkyJobSensor(BaseSensorOperator):
    """Waits for the end of a job: of `job_id` on `cluster_name`, or without one of a managed job.

    Fails when the job did. deferrable: a trigger waits, and is told of the end at once. Nothing is ever ended by it.
    """

    template_fields: Sequence[str] = ("job_id", "cluster_name", "sky_conn_id")

    def __init__(
        self,
        *,
        job_id: int | str,
        cluster_name: str | None = None,
        sky_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.cluster_name = cluster_name
        self.sky_conn_id = sky_conn_id
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Look from time to time, or have a trigger wait."""
        if not self.deferrable:
            return super().execute(context)
        from airflow_sky.triggers import SkyJobTrigger  # noqa: PLC0415 - most DAG files need none

        kind = runs.MANAGED if self.cluster_name is None else runs.EXEC
        work = runs.Work(kind, "", self.cluster_name, job_id=int(self.job_id), foreign=True)
        return self.defer(
            trigger=SkyJobTrigger(work.told(), self.sky_conn_id, quiet=True),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> str:
        """Go on when the trigger has seen the end."""
        ended = runs.Ended.from_told(event)
        if ended.error:
            raise SkyJobFailed(f"{ended.error}: {ended.error_text}")
        return self._judged(ended.status)

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

        number = int(self.job_id)
        with SkyHook(self.sky_conn_id).serving():
            if self.cluster_name is None:
                records, *_ = sky.get(sky.jobs.queue_v2(job_ids=[number]))
                found = [each.status for each in records]
            else:
                status = sky.get(sky.job_status(self.cluster_name, [number])).get(number)
                found = [] if status is None else [status]
        if not found:
            raise SkyJobFailed(f"There is no {self._what()}.")
        if not all(each.is_terminal() for each in found):
            self.log.info("%s is %s.", self._what(), ", ".join(str(each.value) for each in found))
            return PokeReturnValue(False)
        bad = [str(each.value) for each in found if each.value != "SUCCEEDED"]
        return PokeReturnValue(True, xcom_value=self._judged(bad[0] if bad else "SUCCEEDED"))

    def _judged(self, status: str) -> str:
        if status != "SUCCEEDED":
            raise SkyJobFailed(f"{self._what()} ended {status}.")
        return status

    def _what(self) -> str:
        if self.cluster_name is None:
            return f"managed job {self.job_id}"
        return f"job {self.job_id} on '{self.cluster_name}'"
