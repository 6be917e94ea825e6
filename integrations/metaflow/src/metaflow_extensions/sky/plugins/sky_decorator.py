"""The decorator `@sky`: its step runs as a Sky job.

Metaflow calls its hooks in three places: in the process that runs the flow, in the process of the task (here our
launcher stands in for it), and on the node, where nothing but Metaflow is installed. So nothing here may need `sky`
or `metaflow_sky` before a run has failed.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Any

from metaflow import metaflow_config
from metaflow.decorators import StepDecorator
from metaflow.exception import MetaflowException
from metaflow.metadata_provider import MetaDatum
from metaflow.metadata_provider.util import sync_local_metadata_to_datastore
from metaflow.util import get_username

#: What the launcher is told, by an environment variable: lists of processes show command lines.
SPEC = "METAFLOW_SKY_SPEC"
#: Set on nodes: number and cluster of the job.
WORKLOAD = "METAFLOW_SKY_WORKLOAD"
#: Attributes that are said of the task's resources as they are.
_RESOURCES = ("infra", "accelerators", "cpus", "memory", "disk_size", "image_id", "instance_type", "use_spot")
#: Settings of this process that a node needs in order to reach the same datastore and metadata service.
_SETTINGS = (
    "DATASTORE_SYSROOT_S3", "DATASTORE_SYSROOT_AZURE", "DATASTORE_SYSROOT_GS", "DATATOOLS_S3ROOT",
    "DATATOOLS_AZUREROOT", "DATATOOLS_GSROOT", "S3_ENDPOINT_URL", "AZURE_STORAGE_BLOB_SERVICE_ENDPOINT",
    "CARD_S3ROOT", "CARD_AZUREROOT", "CARD_GSROOT", "DEFAULT_AWS_CLIENT_PROVIDER", "DEFAULT_GCP_CLIENT_PROVIDER",
    "DEFAULT_SECRETS_BACKEND_TYPE",
)  # fmt: skip


class SkyException(MetaflowException):
    """The decorator cannot be used this way."""

    headline = "@sky error"


class SkyDecorator(StepDecorator):
    """Runs this step as a Sky job: on a cluster of its own, which is gone afterwards, wherever is cheapest.

    Parameters
    ----------
    infra : str, optional, default None
        Where: `aws`, `gcp/us-east1`, `local`, … None: the cheapest place that is enabled.
    accelerators : str, optional, default None
        As in a task file: `A100:1`.
    cpus, memory : str, optional, default None
        At least: `4+`, in gigabytes `16+`; what `@resources` asks for counts where these are not given.
    disk_size, image_id, instance_type, use_spot : optional, default None
        As in a task file's `resources`.
    resources : Dict[str, Any], optional, default None
        Anything else of a task file's `resources`.
    setup : str, optional, default None
        Shell commands that are run on the node before the step.
    python : str, optional, default None
        The interpreter on the node; by default `python3`, and this one where the file system is shared.
    env : Dict[str, str], optional, default None
        Environment variables of the step.
    secrets : List[str], optional, default None
        Names of environment variables of this process that the step gets as well, on no record in clear.
    cluster_name : str, optional, default None
        Run on this cluster, which stays.
    managed : bool, default False
        As a managed job, which is recovered when capacity is lost.
    shared_filesystem : bool, default False
        Nodes see this directory and the local datastore under the same paths. With `infra='local'` they always do.
    endpoint : str, optional, default None
        Which API server; its token is read from SKYPILOT_SERVICE_ACCOUNT_TOKEN.
    """

    name = "sky"
    defaults: dict[str, Any] = {  # noqa: RUF012 - so Metaflow has it
        "infra": None, "accelerators": None, "cpus": None, "memory": None, "disk_size": None, "image_id": None,
        "instance_type": None, "use_spot": None, "resources": None, "setup": None, "python": None, "env": None,
        "secrets": None, "cluster_name": None, "managed": False, "shared_filesystem": False, "endpoint": None,
    }  # fmt: skip
    #: The code package in the datastore, one for all steps of a flow.
    package: tuple[str, str, str] | None = None

    def step_init(
        self, flow: Any, graph: Any, step: str, decos: Any, environment: Any, flow_datastore: Any, logger: Any
    ) -> None:
        """Check what was asked for, before anything of the flow runs."""
        self._step, self._environment, self._datastore = step, environment, flow_datastore
        self._flow = flow
        self._launched: list[str] = []
        for each in decos:
            if each.name in {"batch", "kubernetes"}:
                raise SkyException(f"Step *{step}* cannot have both @sky and @{each.name}.")
            if each.name == "parallel":
                raise SkyException(f"Step *{step}* is @parallel, which @sky does not support yet.")
            if each.name == "resources":
                self._add_resources(each.attributes)
        self._env = {}
        for each in decos:
            if each.name == "environment":
                self._env.update(each.attributes["vars"])
        if flow_datastore.TYPE == "local" and not self._shares():
            raise SkyException(
                f"Step *{step}* cannot reach the local datastore from {self.attributes['infra'] or 'elsewhere'}. Use "
                "--datastore=s3 (or gs, azure), infra='local', or shared_filesystem=True if nodes see it."
            )

    def _shares(self) -> bool:
        return bool(self.attributes["infra"] == "local" or self.attributes["shared_filesystem"])

    def _add_resources(self, asked: dict[str, Any]) -> None:
        own = self.attributes
        if asked.get("cpu") and own["cpus"] is None:
            own["cpus"] = f"{float(asked['cpu']):g}+"
        if asked.get("memory") and own["memory"] is None:
            # Theirs are megabytes.
            own["memory"] = f"{float(asked['memory']) / 1024:g}+"
        if int(asked.get("gpu") or 0) > 0 and own["accelerators"] is None:
            raise SkyException(
                f"Step *{self._step}* asks for {asked['gpu']} GPUs by @resources: say which, as in "
                f"@sky(accelerators='A100:{asked['gpu']}')."
            )

    def runtime_init(self, flow: Any, graph: Any, package: Any, run_id: str) -> None:
        """Remember the run: hooks that come later are not told."""
        self._flow, self._package, self._run_id = flow, package, run_id

    def runtime_task_created(
        self, task_datastore: Any, task_id: str, split_index: Any, input_paths: Any, is_cloned: bool, ubf_context: Any
    ) -> None:
        """Bring the code to the datastore, once, if nodes take it from there."""
        if is_cloned or self._datastore.TYPE == "local" or SkyDecorator.package is not None:
            return
        url, sha = self._datastore.save_data([self._package.blob], len_hint=1)[0]
        SkyDecorator.package = (url, sha, self._package.package_metadata)

    def runtime_step_cli(self, cli_args: Any, retry_count: int, max_user_code_retries: int, ubf_context: Any) -> None:
        """Have our launcher started in the task's place, with the task's own command behind it."""
        if retry_count > max_user_code_retries:
            # All tries have failed: what @catch does then is done here.
            return
        name = f"{self._step.replace('_', '-').lower()[:24].strip('-')}-{secrets.token_hex(4)}"
        self._launched.append(name)
        cli_args.env[SPEC] = json.dumps(self._spec(cli_args, name, retry_count))
        cli_args.entrypoint = [sys.executable, "-m", "metaflow_sky.launch", *cli_args.entrypoint]

    def _spec(self, cli_args: Any, name: str, attempt: int) -> dict[str, Any]:
        own = self.attributes
        resources = {**(own["resources"] or {}), **{key: own[key] for key in _RESOURCES if own[key] is not None}}
        shared = self._datastore.TYPE == "local"
        spec: dict[str, Any] = {
            "name": name,
            "resources": resources,
            "setup": own["setup"],
            "python": own["python"] or (sys.executable if shared else "python3"),
            "env": {**self._env, **(own["env"] or {})},
            "secrets": own["secrets"] or [],
            "cluster_name": own["cluster_name"],
            "managed": own["managed"],
            "endpoint": own["endpoint"],
            "shared": shared,
            "hidden": {},
            "settings": {"METAFLOW_USER": get_username(), "METAFLOW_RUNTIME_ENVIRONMENT": "sky"},
        }
        if metaflow_config.SERVICE_HEADERS:
            # They hold the key of the metadata service.
            spec["hidden"]["METAFLOW_SERVICE_HEADERS"] = json.dumps(metaflow_config.SERVICE_HEADERS)
        if shared:
            spec["cwd"] = str(Path.cwd())
            return spec
        assert SkyDecorator.package is not None  # a task is created before it is started
        url, sha, metadata = SkyDecorator.package
        kind = self._datastore.TYPE
        spec["prepare"] = self._environment.get_package_commands(url, kind, metadata)
        spec["prepare"] += self._environment.bootstrap_commands(self._step, kind)
        options = cli_args.command_options
        spec["task"] = [self._flow.name, options["run-id"], self._step, options["task-id"], attempt]
        spec["settings"] |= self._settings(url, sha, metadata)
        return spec

    def _settings(self, url: str, sha: str, metadata: str) -> dict[str, str]:
        found = {f"METAFLOW_{name}": getattr(metaflow_config, name, None) for name in _SETTINGS}
        found |= {
            "METAFLOW_CODE_URL": url,
            "METAFLOW_CODE_SHA": sha,
            "METAFLOW_CODE_METADATA": metadata,
            "METAFLOW_CODE_DS": self._datastore.TYPE,
            "METAFLOW_DEFAULT_DATASTORE": self._datastore.TYPE,
            "METAFLOW_DEFAULT_METADATA": metaflow_config.DEFAULT_METADATA,
            "METAFLOW_SERVICE_URL": metaflow_config.SERVICE_INTERNAL_URL,
        }
        return {key: str(value) for key, value in found.items() if value}

    def runtime_finished(self, exception: Exception | None) -> None:
        """Metaflow kills the tasks of a run that ends early, and our launchers with them: end what these have begun."""
        if exception is None or not self._launched:
            return
        from metaflow_sky.cleanup import call_off  # noqa: PLC0415 - not there on nodes, and not needed before

        call_off(self._launched, managed=self.attributes["managed"], endpoint=self.attributes["endpoint"])

    def task_pre_step(
        self, step_name: str, task_datastore: Any, metadata: Any, run_id: str, task_id: str, *rest: Any
    ) -> None:
        """On the node: note which job this is."""
        self._metadata, self._task_datastore = metadata, task_datastore
        if WORKLOAD not in os.environ:
            return
        attempt = rest[2] if len(rest) > 2 else 0
        known = {
            "sky-cluster": os.environ.get("SKYPILOT_CLUSTER_NAME") or json.loads(os.environ[WORKLOAD])["name"],
            "sky-managed-job": os.environ.get("SKYPILOT_MANAGED_JOB_ID"),
        }
        tags = [f"attempt_id:{attempt}"]
        entries = [MetaDatum(field=key, value=value, type=key, tags=tags) for key, value in known.items() if value]
        metadata.register_metadata(run_id, step_name, task_id, entries)

    def task_finished(self, step_name: str, flow: Any, graph: Any, is_task_ok: bool, *rest: Any) -> None:
        """On a node without our file system: metadata that was written there goes home by way of the datastore."""
        if WORKLOAD not in os.environ or json.loads(os.environ[WORKLOAD])["shared"]:
            return
        if getattr(self, "_metadata", None) is not None and self._metadata.TYPE == "local":
            sync_local_metadata_to_datastore(metaflow_config.DATASTORE_LOCAL_DIR, self._task_datastore)
