"""The worker of work pools of type `sky`: each flow run becomes a managed job, on whatever place its variables allow.

Loaded by Prefect through the collection. A managed job has a cluster of its own, which the Sky server brings up, brings
back when it is lost, and takes down; so nothing depends on this process: a worker that is killed leaves flow runs going
on, and no cluster. With `cluster_name` flow runs are jobs of a cluster that is there already.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import anyio
import anyio.abc
import prefect
from prefect.exceptions import InfrastructureNotFound
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import Field

from prefect_sky.credentials import SkyCredentials
from prefect_sky.endpoints import serving
from prefect_sky.runs import LAST_LINES

if TYPE_CHECKING:
    import logging

    import sky
    from prefect.client.schemas.objects import FlowRun

#: Where Prefect is installed on nodes that do not have it.
_VENV = "$HOME/.prefect-sky"
_PATH = f'export PATH="{_VENV}/bin:$PATH"'
#: Settings that say where things are on the worker's machine, or are the server's or the worker's own.
_STAYS_HERE = re.compile(
    r"PREFECT_(HOME|PROFILES_PATH|LOCAL_STORAGE_PATH|MEMO_STORE_PATH|LOGGING_SETTINGS_PATH|LOGGING_CONFIG_PATH"
    r"|API_SSL_CERT_FILE|SERVER_.*|API_DATABASE_.*|API_SERVICES_.*|WORKER_.*|RUNNER_SERVER_.*|CLI_.*|UI_.*|TEST.*"
    r"|UNIT_TEST.*|INTERNAL_.*)"
)
#: Variables that travel as secrets: they are in no record in clear, and are told to nobody.
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|AUTH|CREDENTIAL|CUSTOM_HEADERS|CONNECTION_URL|DSN", re.IGNORECASE)
#: Seconds between looks at whether a flow run was cancelled before it began.
_WATCH_S = 5.0
_LOOPBACK = re.compile(r"localhost|127\..*|::1|0\.0\.0\.0")


class SkyVariables(BaseVariables):
    """Variables of the pool, set for a deployment by `job_variables`."""

    infra: str | None = Field(
        default=None, description="Where to run: cloud, cloud/region or cloud/region/zone. Empty: wherever is cheapest."
    )
    accelerators: str | None = Field(default=None, description="GPUs of the machine, like H100:8.")
    cpus: str | int | None = Field(default=None, description="vCPUs of the machine, like 4 or 4+.")
    memory: str | int | None = Field(default=None, description="Memory of the machine in GB, like 16 or 16+.")
    use_spot: bool | None = Field(default=None, description="Rent capacity that may be taken away; jobs come back.")
    image_id: str | None = Field(default=None, description="Image of the machine, or docker:IMAGE.")
    resources: dict[str, Any] | None = Field(
        default=None, description="The whole `resources` of a task file; the fields above win over it."
    )
    setup: str | None = Field(default=None, description="A script that prepares the node, before the flow run.")
    workdir: str | None = Field(
        default=None, description="A folder of the worker's machine that is synced to the node."
    )
    file_mounts: dict[str, str] | None = Field(default=None, description="Destination on the node: source.")
    secrets: dict[str, str] | None = Field(
        default=None, description="Secret environment variables; values may refer to blocks and variables."
    )
    install_prefect: bool = Field(
        default=True, description="Install Prefect (this version, in an environment of its own) on nodes without it."
    )
    cluster_name: str | None = Field(
        default=None, description="Run on this cluster, which is up and stays, in place of one of the run's own."
    )
    api_server_endpoint: str | None = Field(default=None, description="The Sky server; empty: as the worker has it.")
    credentials: SkyCredentials | None = Field(
        default=None, description="Where the Sky server is, and the token for it."
    )


class SkyJobConfiguration(BaseJobConfiguration):
    """What one flow run asks for, all filled in."""

    infra: str | None = None
    accelerators: str | None = None
    cpus: str | int | None = None
    memory: str | int | None = None
    use_spot: bool | None = None
    image_id: str | None = None
    resources: dict[str, Any] | None = None
    setup: str | None = None
    workdir: str | None = None
    file_mounts: dict[str, str] | None = None
    secrets: dict[str, str] | None = None
    install_prefect: bool = True
    cluster_name: str | None = None
    api_server_endpoint: str | None = None
    credentials: SkyCredentials | None = None

    def asked(self) -> dict[str, Any]:
        """The `resources` of the task."""
        named = ("infra", "accelerators", "cpus", "memory", "use_spot", "image_id")
        given = {name: getattr(self, name) for name in named}
        return {**(self.resources or {}), **{name: value for name, value in given.items() if value not in (None, "")}}

    def environment(self) -> tuple[dict[str, str], dict[str, str]]:
        """What the flow run finds in its environment: plain, and secret."""
        kept = {
            name: value for name, value in self.env.items() if value is not None and not _STAYS_HERE.fullmatch(name)
        }
        secret = {name: value for name, value in kept.items() if _SECRET.search(name) and value}
        return {name: value for name, value in kept.items() if name not in secret}, {**secret, **(self.secrets or {})}

    def check(self) -> None:
        """Raise ValueError where a node could not talk to the Prefect server."""
        url = self.env.get("PREFECT_API_URL")
        if not url:
            raise ValueError("PREFECT_API_URL is not set: flow runs elsewhere need the address of the Prefect server.")
        host = urlsplit(url).hostname or ""
        where = str(self.asked().get("infra") or self.asked().get("cloud") or "")
        if _LOOPBACK.fullmatch(host) and self.cluster_name is None and where.split("/", maxsplit=1)[0] != "local":
            raise ValueError(
                f"PREFECT_API_URL is {url}, which machines elsewhere cannot reach. Give the server an address that "
                "they can (in the worker's settings, or as env of the pool), or run on this machine: infra: local."
            )

    def task(self, name: str) -> sky.Task:
        """The flow run as a task of the SDK. Raises ValueError with every problem."""
        import sky  # noqa: PLC0415 - the server loads this module too, and never calls `sky`

        envs, secrets = self.environment()
        config: dict[str, Any] = {
            "name": name,
            "resources": self.asked(),
            "setup": "\n".join(filter(None, (_PATH, self._install(), self.setup))),
            "run": f"{_PATH}\n{self.command}\n",
            "envs": envs,
            "secrets": secrets,
            "workdir": self.workdir,
            "file_mounts": self.file_mounts,
        }
        return sky.Task.from_yaml_config({key: value for key, value in config.items() if value})

    def _install(self) -> str:
        if not self.install_prefect:
            return ""
        return (
            f'command -v prefect >/dev/null || {{ python3 -m venv "{_VENV}" && '
            f'"{_VENV}/bin/pip" install --quiet "prefect=={prefect.__version__}"; }} || exit 1'
        )


class SkyWorkerResult(BaseWorkerResult):
    """How the job of a flow run ended."""


@dataclass(frozen=True, slots=True)
class Place:
    """A job as Prefect keeps it with the flow run: `job:NUMBER`, or `cluster:NAME:NUMBER`."""

    kind: Literal["job", "cluster"]
    cluster: str
    job_id: int

    def __str__(self) -> str:
        return f"job:{self.job_id}" if self.kind == "job" else f"cluster:{self.cluster}:{self.job_id}"

    @staticmethod
    def parse(text: str) -> Place:
        """Raises InfrastructureNotFound for what is none of ours."""
        found = re.fullmatch(r"job:(\d{1,12})|cluster:([\w.-]{1,253}):(\d{1,12})", text, re.ASCII)
        if found is None:
            raise InfrastructureNotFound(f"'{text[:100]}' is no job of a Sky server.")
        if found[1]:
            return Place("job", "", int(found[1]))
        return Place("cluster", found[2], int(found[3]))


class SkyWorker(BaseWorker[SkyJobConfiguration, SkyVariables, SkyWorkerResult]):
    """Runs flow runs on any place with compute."""

    type = "sky"
    job_configuration = SkyJobConfiguration
    job_configuration_variables = SkyVariables
    _display_name = "Sky"
    _description = "Execute flow runs on any cloud, Slurm, machines of your own or this one, wherever is cheapest."

    async def run(
        self,
        flow_run: FlowRun,
        configuration: SkyJobConfiguration,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> SkyWorkerResult:
        """Launch the job of a flow run, tell where it is, and wait for its end."""
        logger = self.get_flow_run_logger(flow_run)
        place = await anyio.to_thread.run_sync(partial(_launch, configuration, flow_run))
        logger.info("Flow run is %s", _told(place))
        if task_status is not None:
            task_status.started(str(place))
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch, flow_run, configuration, place)
            with serving(*_server(configuration)):
                code = await _followed(place, logger)
            group.cancel_scope.cancel()
        return SkyWorkerResult(identifier=str(place), status_code=code)

    async def _watch(self, flow_run: FlowRun, configuration: SkyJobConfiguration, place: Place) -> None:
        """End the job of a flow run that is cancelled before its flow begins; from then on the flow hears of it itself.

        Prefect's workers do so only where an experimental setting says it, and that is off by default.
        """
        while True:
            await anyio.sleep(_WATCH_S)
            try:
                seen = await self.client.read_flow_run(flow_run.id)
            except Exception as unread:  # noqa: BLE001 - a server that does not answer just now is asked again
                self._logger.debug("Flow run %s could not be read: %s", flow_run.id, unread)
                continue
            if seen.start_time is not None or seen.state is None:
                return
            if seen.state.is_cancelling() or seen.state.is_cancelled():
                self.get_flow_run_logger(flow_run).info("Cancelled before it began: ending %s", place)
                with contextlib.suppress(InfrastructureNotFound):
                    await self.kill_infrastructure(str(place), configuration)
                await self._mark_flow_run_as_cancelled(seen, {"message": "Cancelled before it began."})
                return

    async def kill_infrastructure(
        self, infrastructure_pid: str, configuration: SkyJobConfiguration, grace_seconds: int = 30
    ) -> None:
        """End the job of a flow run that has not begun, with its cluster. Raises InfrastructureNotFound.

        Nothing of the flow has run by then, so nothing is given time to end by itself.
        """
        place = Place.parse(infrastructure_pid)
        await anyio.to_thread.run_sync(partial(_cancel, configuration, place))


def _server(configuration: SkyJobConfiguration) -> tuple[str | None, SkyCredentials | None]:
    return configuration.api_server_endpoint, configuration.credentials


def _launch(configuration: SkyJobConfiguration, flow_run: FlowRun) -> Place:
    import sky  # noqa: PLC0415 - the server loads this module too, and never calls `sky`

    configuration.check()
    task = configuration.task(_job_name(flow_run))
    with serving(*_server(configuration)):
        if configuration.cluster_name is not None:
            job_id, _ = sky.get(sky.exec(task, configuration.cluster_name))
            if job_id is None:
                raise RuntimeError(f"Cluster '{configuration.cluster_name}' took no job.")
            return Place("cluster", configuration.cluster_name, job_id)
        ids, _ = sky.get(sky.jobs.launch(task))
        return Place("job", "", int(ids))


def _job_name(flow_run: FlowRun) -> str:
    slug = re.sub(r"[^A-Za-z0-9]+", "-", flow_run.name).strip("-")[:40].strip("-") or "flow"
    return f"prefect-{slug}"


def _told(place: Place) -> str:
    if place.kind == "job":
        return f"managed job {place.job_id}: `sky jobs logs {place.job_id}`"
    return f"job {place.job_id} of cluster '{place.cluster}': `sky logs {place.cluster} {place.job_id}`"


class _Last:
    """A stream that keeps the end of what is written to it: the flow run's own log goes to Prefect by itself."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text = (self.text + text)[-20_000:]

    def flush(self) -> None:
        """Nothing is held back."""

    def lines(self) -> str:
        return "\n".join(self.text.splitlines()[-LAST_LINES:])


async def _followed(place: Place, logger: logging.Logger | logging.LoggerAdapter[Any]) -> int:
    """Wait for the end of a job; nothing of that holds a thread. 0, or what tells Prefect that it ended badly."""
    from sky.client import sdk_async  # noqa: PLC0415 - the server loads this module too, and never calls `sky`
    from sky.sdk import asynchronous_jobs  # noqa: PLC0415

    last = _Last()
    if place.kind == "job":
        code = await asynchronous_jobs.tail_logs(job_id=place.job_id, output_stream=last)
    else:
        code = await sdk_async.tail_logs(place.cluster, place.job_id, output_stream=last)
    if code in (0, 103):
        # Who cancels a flow run says so to Prefect; it is no crash.
        return 0
    logger.error("The job of the flow run ended badly. Its last lines:\n%s", last.lines())
    return 1


def _cancel(configuration: SkyJobConfiguration, place: Place) -> None:
    import sky  # noqa: PLC0415 - the server loads this module too, and never calls `sky`

    with serving(*_server(configuration)):
        try:
            if place.kind == "job":
                sky.get(sky.jobs.cancel(job_ids=[place.job_id]))
            else:
                sky.get(sky.cancel(place.cluster, job_ids=[place.job_id]))
        except ValueError as unknown:
            raise InfrastructureNotFound(f"{_told(place)}: {unknown}") from unknown
