"""Operators: a task on a cluster of its own, on one that is there, as a managed job; and the end of a cluster.

The module is imported wherever DAG files are read, so it imports nothing of `sky`; that happens when a task runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator
from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.sdk.log import mask_secret

from airflow_sky import names, runs
from airflow_sky.attempts import Attempt
from airflow_sky.hooks import DEFAULT_CONN_ID, SkyHook
from airflow_sky.lines import Lines

if TYPE_CHECKING:
    from airflow.sdk import Context

#: How Airflow resumes a deferred task whose trigger failed, or took too long.
_TRIGGER_FAILED = "__fail__"


class SkyJobFailed(AirflowException):
    """A job that did not succeed, in its own words."""


class _SkyJobOperator(BaseOperator):
    """What the three have in common; each says in `_work` what a try of it is, and what it is called."""

    template_fields: Sequence[str] = (
        "sky_task",
        "name",
        "cluster_name",
        "envs",
        "secrets",
        "resources_override",
        "sky_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sky_task": "yaml",
        "envs": "json",
        "resources_override": "json",
    }
    ui_color = "#d6ecfa"

    def __init__(
        self,
        *,
        sky_task: Any,
        name: str | None = None,
        cluster_name: str | None = None,
        envs: Mapping[str, Any] | None = None,
        secrets: Mapping[str, Any] | None = None,
        resources_override: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        sky_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sky_task = sky_task
        self.name = name
        self.cluster_name = cluster_name
        self.envs = envs
        self.secrets = secrets
        self.resources_override = resources_override
        self.options = options
        self.sky_conn_id = sky_conn_id
        self.deferrable = deferrable
        self._attempt: Attempt | None = None

    # --- what each of them says --------------------------------------------------------------------------------------

    def _work(self, name: str) -> runs.Work:
        raise NotImplementedError

    # --- Airflow's side ----------------------------------------------------------------------------------------------

    def execute(self, context: Context) -> Any:
        """Begin, or take over what a try before this one began; follow it to its end, or defer until then."""
        return self._go(context, anew=False)

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """Go on when the trigger has seen the end."""
        ended = runs.Ended.from_told(event)
        attempt = self._new_attempt()
        attempt.note(ended.work)
        return self._conclude(context, attempt, ended)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """As Airflow's own; but a trigger that failed, or was too slow, has left a run that nobody would end."""
        if next_method == _TRIGGER_FAILED:
            attempt = self._new_attempt()
            left = attempt.act(lambda: runs.find(self._tries(context, itself=True)))
            if left is not None:
                self.log.info("Calling off '%s', which is not waited for any more.", left.name)
                attempt.act(lambda: runs.order_end(left))
        return super().resume_execution(next_method, next_kwargs, context)

    def on_kill(self) -> None:
        """Somebody ends the task: the server is told to end its launch, its job, and its cluster."""
        if self._attempt is not None:
            self._attempt.call_off()

    # --- parts -------------------------------------------------------------------------------------------------------

    def _hidden(self) -> list[str]:
        return [str(value) for value in (self.secrets or {}).values() if value is not None]

    def _new_attempt(self) -> Attempt:
        self._attempt = Attempt(SkyHook(self.sky_conn_id).server().serving)
        return self._attempt

    def _tries(self, context: Context, *, itself: bool = False) -> list[runs.Work]:
        """What the tries of this task instance would be called, newest first."""
        stem, number = names.stem_of(context, self.name), int(context["ti"].try_number)
        return [self._work(each) for each in names.before(stem, number + 1 if itself else number)]

    def _go(self, context: Context, *, anew: bool) -> Any:
        for value in self._hidden():
            mask_secret(value)
        attempt = self._new_attempt()
        try:
            work = attempt.act(self._begin(context, attempt, anew))
        except BaseException as failed:
            # The server may have taken a launch although its answer never came.
            attempt.call_off()
            if not isinstance(failed, Exception):
                raise
            raise self._verdict(failed, runs.is_lasting(failed)) from failed
        self._announce(context, work)
        if self.deferrable:
            self._defer(work)
            self.log.warning("Not deferred: without core.fernet_key a trigger cannot keep the task's secrets hidden.")
        return self._conclude(context, attempt, self._followed(context, attempt, work))

    def _begin(self, context: Context, attempt: Attempt, anew: bool) -> Callable[[], runs.Work]:
        """What the thread does first; all that is Airflow's is asked for here, in the main thread."""
        wanted = self._work(names.of_try(names.stem_of(context, self.name), int(context["ti"].try_number)))
        tries = [] if anew else self._tries(context)
        folder = Path(self.dag.fileloc).parent if self.has_dag() and self.dag.fileloc else Path.cwd()
        given, envs, secrets, resources = self.sky_task, self.envs, self.secrets, self.resources_override
        options = dict(self.options or {})

        def begin() -> runs.Work:
            work = runs.find(tries) if tries else None
            if work is None:
                from airflow_sky.tasks import read_tasks  # noqa: PLC0415 - DAG files are read without it

                tasks = read_tasks(given, folder, envs=envs, secrets=secrets, resources=resources)
                # From here on a cluster of this name may be there, even if no answer ever comes.
                if wanted.own:
                    attempt.note(wanted)
                work = runs.submit(wanted, tasks, options)
            attempt.note(work)
            return work

        return begin

    def _announce(self, context: Context, work: runs.Work) -> None:
        """Tell the log and XCom what there is now; the rest is told at the end."""
        what = f"managed job '{work.name}'" if work.managed else f"cluster '{work.cluster}'"
        if work.taken_over:
            self.log.info("A try before this one was cut off; going on with its %s.", what)
        else:
            self.log.info("Launching on %s (request %s).", what, work.request_id)
        for key, value in (("request_id", work.request_id), ("cluster_name", work.cluster)):
            if value:
                context["ti"].xcom_push(key=key, value=value)

    def _defer(self, work: runs.Work) -> None:
        from airflow_sky.triggers import SkyJobTrigger, sealed  # noqa: PLC0415 - most DAG files need none

        hidden = sealed(self._hidden())
        if hidden is None:
            return
        self.defer(
            trigger=SkyJobTrigger(work.told(), self.sky_conn_id, hidden=hidden),
            method_name="execute_complete",
            timeout=self.execution_timeout,
        )

    def _followed(self, context: Context, attempt: Attempt, work: runs.Work) -> runs.Ended:
        lines = Lines(lambda line: self.log.info("%s", line), self._hidden())
        try:
            return attempt.act(lambda: runs.follow(work, lines, attempt.note, attempt.pause))
        except BaseException:
            # A time limit, Ctrl-C: whatever ends this, ends the run.
            attempt.call_off()
            raise

    def _conclude(self, context: Context, attempt: Attempt, ended: runs.Ended) -> Any:
        """Take down, tell XCom, and fail with what the job said."""
        work = ended.work
        if ended.error:
            attempt.act(lambda: runs.order_end(work))
        attempt.act(lambda: runs.release(work))
        if work.taken_over and ended.called_off:
            self.log.info("What the try before had begun was called off; beginning anew.")
            return self._go(context, anew=True)
        place, cost, cluster = attempt.act(lambda: runs.receipt(work))
        told = {
            "cluster_name": cluster,
            "job_id": work.job_id,
            "request_id": work.request_id,
            "status": ended.status,
            "exit_code": ended.exit_code,
            "infra": place,
            "cost": cost,
        }
        for key, value in told.items():
            if value is not None:
                context["ti"].xcom_push(key=key, value=value)
        shown = "not known" if cost is None else f"{cost:.4f} USD"
        self.log.info("%s on %s; cost: %s", ended.status, place or "no place", shown)
        if ended.succeeded:
            return told
        raise self._verdict(ended, ended.lasting)

    def _verdict(self, ended: runs.Ended | Exception, lasting: bool) -> Exception:
        """The error of the task. One that another try would meet as well, is not tried again."""
        if isinstance(ended, Exception):
            text = f"{type(ended).__name__}: {ended}"
        elif ended.error:
            text = f"{ended.error}: {ended.error_text}"
        else:
            text = _said(ended)
        return AirflowFailException(text) if lasting else SkyJobFailed(text)


def _said(ended: runs.Ended) -> str:
    work = ended.work
    where = f"Managed job {work.job_id}" if work.managed else f"Job {work.job_id} on cluster '{work.cluster}'"
    reason = f" ({ended.reason})" if ended.reason else ""
    last = "\n".join(f"  {line}" for line in ended.last_lines)
    said = f"Its last lines:\n{last}" if last else "It said nothing."
    return f"{where} ended {ended.status}{reason}. {said}"


class SkyLaunchOperator(_SkyJobOperator):
    """Run a task on a cluster of its own, which is gone at the end; or on `cluster_name`, which stays.

    sky_task: path of a task file (from the DAG's folder), its text, a mapping, or a `sky.Task`. name: what the cluster
    is called, by default after DAG and task. keep: leave the cluster although it has no name. envs, secrets,
    resources_override: put over the task's own. options: further arguments of `sky.launch`. deferrable: hold no worker.
    Returns a mapping of `cluster_name`, `job_id`, `request_id`, `status`, `exit_code`, `infra`, `cost`; each is an XCom
    of its own as well, and there also when the task failed.
    """

    def __init__(self, *, keep: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = keep

    def _work(self, name: str) -> runs.Work:
        if self.cluster_name is not None or self.keep:
            # A cluster that stays is one for all tries.
            return runs.Work(runs.LAUNCH, name, self.cluster_name or name.rpartition("-t")[0])
        return runs.Work(runs.LAUNCH, name, name, own=True)


class SkyExecOperator(_SkyJobOperator):
    """Run a task on the cluster `cluster_name`, which is up, without making it ready anew; it stays.

    The rest as in SkyLaunchOperator; `options` are further arguments of `sky.exec`.
    """

    def __init__(self, *, cluster_name: str, **kwargs: Any) -> None:
        super().__init__(cluster_name=cluster_name, **kwargs)

    def _work(self, name: str) -> runs.Work:
        return runs.Work(runs.EXEC, name, self.cluster_name)


class SkyManagedJobOperator(_SkyJobOperator):
    """Run a task, a pipeline or a graph of tasks as a managed job, which survives the loss of its machines.

    sky_task may also be a list of tasks, which run one after another. name: what the job is called, with a suffix that
    tells whose it is. `options` are further arguments of `sky.jobs.launch`. The rest as in SkyLaunchOperator.
    """

    def __init__(self, *, pool: str | None = None, **kwargs: Any) -> None:
        if kwargs.get("cluster_name") is not None:
            raise ValueError("A managed job has a cluster of its own: give a name, not a cluster_name.")
        super().__init__(**kwargs)
        self.pool = pool

    def _work(self, name: str) -> runs.Work:
        return runs.Work(runs.MANAGED, name)

    def _begin(self, context: Context, attempt: Attempt, anew: bool) -> Callable[[], runs.Work]:
        if self.pool is not None:
            self.options = {"pool": self.pool, **(self.options or {})}
        return super()._begin(context, attempt, anew)


class SkyDownOperator(BaseOperator):
    """Take a cluster down. It is a teardown: it runs whatever became of the tasks before it, and hides no failure.

    A cluster that is gone already is well, too. With a `trigger_rule` it is a task like others. Returns what the
    cluster has cost, in USD, or None if nobody knows.
    """

    template_fields: Sequence[str] = ("cluster_name", "sky_conn_id")
    ui_color = "#f5e1d3"

    def __init__(
        self,
        *,
        cluster_name: str,
        purge: bool = False,
        sky_conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if "trigger_rule" not in kwargs:
            # As a plain last task it would have a run count as a success whatever failed before it.
            self.as_teardown()
        self.cluster_name = cluster_name
        self.purge = purge
        self.sky_conn_id = sky_conn_id

    def execute(self, context: Context) -> float | None:
        """Take it down, and wait until it is gone."""
        if self.cluster_name in (None, "", "None"):
            self.log.info("No task has told the name of a cluster.")
            return None
        import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

        with SkyHook(self.sky_conn_id).serving():
            try:
                sky.get(sky.down(self.cluster_name, purge=self.purge))
                self.log.info("Cluster '%s' is gone.", self.cluster_name)
            except sky.exceptions.ClusterDoesNotExist:
                self.log.info("Cluster '%s' was gone already.", self.cluster_name)
            work = runs.Work(runs.LAUNCH, self.cluster_name, self.cluster_name, own=True)
            return runs.receipt(work)[1]
