"""The table of foreign module paths: which names each has, and where those live here. Read by `finding.py`.

Below a path stand modules of ours, each with the names that are taken from it; `theirs=ours` where the names differ.
"""

_STATUSES = "sky.core.model.statuses"
_SERVICES = {
    _STATUSES: "ReplicaStatus ServiceStatus",
    "sky.core.model.pools": "UpdateMode",
    "sky.compat.services": "ServiceComponent",
}
_CLOUDS = "sky.core.model.clouds"
_CHOICES = "sky.core.model.choices"
_BACKENDS = {
    "sky.compat.backends": "Backend CloudVmRayBackend LocalDockerBackend",
    "sky.sdk.records": "ResourceHandle=ClusterHandle CloudVmRayResourceHandle=ClusterHandle",
}
_STORAGE = {
    "sky.sdk.storage": "Storage",
    "sky.core.model.storage": "StorageMode StoreType",
    "sky.compat.backends": "AbstractStore S3Store GcsStore AzureBlobStore R2Store",
}
_ALL_CLOUDS = (
    "AWS Azure Cloud CoreWeave Crusoe Cudo DO Fluidstack GCP Hetzner Hyperbolic IBM K8s Kubernetes Lambda Local "
    "Mithril Nebius OCI OVHcloud Paperspace PrimeIntellect RunPod SCP SSH Scaleway Seeweb Shadeform Slurm Vast Verda "
    "Vsphere Vultr Yotta"
)

PATHS: dict[str, dict[str, str]] = {
    "sky.admin_policy": {
        "sky.sdk.policies": "AdminPolicy AdminPolicyRequestName UserRequest MutatedUserRequest",
    },
    "sky.backends": _BACKENDS,
    "sky.backends.backend": {
        "sky.compat.backends": "Backend",
        "sky.sdk.records": "ResourceHandle=ClusterHandle",
    },
    "sky.backends.cloud_vm_ray_backend": _BACKENDS,
    "sky.check": {"sky.compat.checks": "check check_capability get_cached_enabled_clouds_or_refresh"},
    "sky.client.common": {"sky.sdk.server": "ensure_server"},
    "sky.clouds.cloud": {
        _CLOUDS: "Cloud",
        "sky.core.model.resources": "Region",
        "sky.compat.features": "CloudCapability CloudImplementationFeatures",
    },
    "sky.dag": {"sky.sdk.dags": "Dag DagExecution"},
    "sky.data": _STORAGE,
    "sky.data.storage": _STORAGE,
    "sky.execution": {"sky.compat.results": "launch exec"},
    "sky.jobs.state": {_STATUSES: "ManagedJobStatus ManagedJobScheduleState"},
    "sky.jobs.utils": {_STATUSES: "ManagedJobStatus"},
    "sky.optimizer": {"sky.compat.results": "Optimizer"},
    "sky.resources": {"sky.core.model.resources": "Resources", "sky.core.model.autostop": "AutostopConfig"},
    "sky.schemas": {},
    "sky.schemas.api": {},
    "sky.schemas.api.responses": {
        "sky.sdk.records": (
            "APIHealthResponse ClusterJobRecord ManagedJobRecord RequestPayload ResponseBaseModel=Record StatusResponse"
        ),
    },
    "sky.serve.client": {},
    "sky.serve.client.sdk": {"sky.serve": "down status sync_down_logs tail_logs terminate_replica up update"},
    "sky.serve.serve_state": {_STATUSES: "ReplicaStatus ServiceStatus"},
    "sky.serve.serve_utils": _SERVICES,
    "sky.serve.service_spec": {"sky.core.model.services": "SkyServiceSpec=ServiceSpec"},
    "sky.server.common": {
        "sky.sdk.ids": "RequestId",
        "sky.compat.settings": "get_server_url check_server_healthy_or_start is_api_server_local",
    },
    "sky.server.constants": {"sky.version": "API_VERSION"},
    "sky.sky_logging": {"sky.compat.output": "init_logger silent"},
    "sky.skylet": {},
    "sky.skylet.autostop_lib": {"sky.core.model.autostop": "AutostopWaitFor AutostopConfig"},
    "sky.skylet.constants": {
        "sky.compat.texts": (
            "SKY_REMOTE_WORKDIR SKY_LOGS_DIRECTORY TASK_ID_ENV_VAR SKYPILOT_NODE_IPS SKYPILOT_NUM_NODES "
            "SKYPILOT_NODE_RANK SKYPILOT_NUM_GPUS_PER_NODE"
        ),
    },
    "sky.skylet.job_lib": {_STATUSES: "JobStatus", "sky.core.errors": "JobExitCode"},
    "sky.skypilot_config": {
        "sky.compat.settings": "get_nested loaded override_skypilot_config replace_skypilot_config to_dict",
    },
    "sky.status_lib": {_STATUSES: "ClusterStatus", "sky.core.model.storage": "StorageStatus"},
    "sky.task": {"sky.sdk.tasks": "Task"},
    "sky.utils": {},
    "sky.utils.common": {_CHOICES: "OptimizeTarget StatusRefreshMode"},
    "sky.utils.common_utils": {
        "sky.compat.texts": (
            "check_cluster_name_is_valid dump_yaml dump_yaml_str get_user_hash make_cluster_name_on_cloud read_yaml "
            "read_yaml_all read_yaml_str"
        ),
    },
    "sky.utils.dag_utils": {
        "sky.compat.texts": (
            "convert_entrypoint_to_dag dump_chain_dag_to_yaml dump_chain_dag_to_yaml_str dump_dag_to_yaml_str"
        ),
        "sky.sdk.dag_files": (
            "load_chain_dag_from_yaml=load_dag_from_yaml load_chain_dag_from_yaml_str=load_dag_from_yaml_str "
            "load_dag_from_yaml load_dag_from_yaml_str"
        ),
    },
    "sky.utils.registry": {_CLOUDS: "CLOUD_REGISTRY"},
    "sky.utils.resources_utils": {"sky.core.model.requirements": "DiskTier NetworkTier"},
    "sky.utils.status_lib": {
        _STATUSES: "ClusterStatus",
        "sky.core.model.storage": "StorageStatus",
        "sky.core.model.volumes": "VolumeStatus",
        _CHOICES: "StatusRefreshMode",
    },
    "sky.utils.subprocess_utils": {"sky.compat.output": "run_in_parallel"},
    "sky.utils.yaml_utils": {
        "sky.compat.texts": "dump_yaml dump_yaml_str read_yaml read_yaml_all read_yaml_str safe_load",
    },
    "sky.volumes.client": {},
    "sky.volumes.client.sdk": {"sky.volumes": "apply delete ls validate"},
    "sky.volumes.volume": {"sky.compat.backends": "Volume"},
}

#: Names that rooms and porches of ours have beside their own, for the same programs.
BESIDE: dict[str, dict[str, str]] = {
    "sky.clouds": {"sky.compat.features": "CloudCapability CloudImplementationFeatures"},
    "sky.core": {
        "sky.compat.results": (
            "autostop cancel cost_report down download_logs endpoints job_status queue start status stop tail_logs"
        ),
    },
    "sky.jobs": {_STATUSES: "ManagedJobScheduleState"},
    "sky.serve": _SERVICES,
    "sky.volumes": {"sky.compat.backends": "Volume"},
}

#: One module per cloud, which programs import the class from.
PATHS |= {f"sky.clouds.{name.lower()}": {_CLOUDS: name} for name in _ALL_CLOUDS.split() if name not in ("Cloud", "K8s")}

#: What is not offered, and what a program does instead.
GONE = {
    "sky.authentication": "keys are the server's own; `ssh NAME` and sky.status() say how a node is reached",
    "sky.backends.backend_utils": "clusters are asked for by sky.status(), their addresses by sky.endpoints()",
    "sky.backends.wheel_utils": "nothing of the client is installed on nodes",
    "sky.global_user_state": "the server's records are its own; ask sky.status(), sky.cost_report() or sky.ledger()",
    "sky.jobs.constants": "there is no controller machine; settings of managed jobs are in the configuration",
    "sky.jobs.controller": "there is no controller machine; the server looks after managed jobs itself",
    "sky.provision": "providers are found by the entry point group sky.providers; see docs/architecture.md",
    "sky.server.requests": "requests are made by the SDK: sky.launch(), sky.get(), sky.api_status()",
    "sky.server.server": "the server is started by sky.api_start() or `sky api start`",
    "sky.setup_files": "the installation is one distribution; its extras are in pyproject.toml",
    "sky.spot": "it is sky.jobs now",
    "sky.utils.command_runner": "commands on nodes are run by sky.exec() or `ssh NAME`",
    "sky.utils.db_utils": "the server's records are its own; ask sky.status(), sky.queue() or sky.api_status()",
    "sky.utils.controller_utils": "there is no controller machine; the server looks after managed jobs itself",
}
