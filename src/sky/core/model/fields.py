"""What a task file may say: every section, key, kind and choice, declared once.

Parsers check a mapping against its section before they read it; unknown keys, wrong kinds and wrong choices are told
from these tables, with the nearest right word. What a value means is the business of the noun's own module.
"""

from __future__ import annotations

from sky.core.model.autostop import AutostopWaitFor
from sky.core.model.safeguards import SIGNALS
from sky.core.model.schema import Field, Section

DISK_TIERS = ("low", "medium", "high", "ultra", "best")
NETWORK_TIERS = ("standard", "best")
STORAGE_MODES = ("MOUNT", "COPY", "MOUNT_CACHED")
STORE_TYPES = ("S3", "GCS", "AZURE", "R2", "IBM", "OCI", "NEBIUS", "COREWEAVE", "VASTDATA", "HF", "VOLUME")
FILE_MOUNT_TYPES = ("MODEL_CHECKPOINT_RO", "MODEL_CHECKPOINT_RW", "DATASET_RO", "DATASET_RW")
LOAD_BALANCING_POLICIES = ("round_robin", "least_load", "instance_aware_least_load")
HOOK_EVENTS = ("stop", "preemption", "down")

_TEXT = Field(("text",), "a text")
_BOOL = Field(("boolean",), "a switch")
_ANYTHING = Field(("text", "number", "boolean", "mapping", "list"), "any value")
_TEXT_LIST = Field(("list",), "a list of texts", values=_TEXT)
_OPEN_MAP = Field(("mapping",), "free settings")
_SIZE = Field(("number", "text"), "a size in GB, or with a unit")
_COUNT = Field(("integer",), "a count", least=0)
_SECONDS = Field(("number",), "seconds", least=0)
_TIER = Field(("text",), "speed of the disk", choices=DISK_TIERS)

AUTOSTOP = Section(
    "autostop",
    {
        "enabled": _BOOL,
        "idle_minutes": Field(("integer", "text"), "minutes without a job"),
        "down": Field(("boolean",), "take the cluster down in place of stopping it"),
        "wait_for": Field(
            ("text",), "what keeps the cluster awake", choices=tuple(one.value for one in AutostopWaitFor)
        ),
        "hook": Field(("text",), "a script to run before (deprecated: config.hooks)"),
        "hook_timeout": Field(("integer",), "seconds that the hook may run", least=1),
    },
)

RESOURCE_VOLUME = Section(
    "resources.volumes",
    {
        "path": Field(("text",), "where to mount it"),
        "name": Field(("text",), "an existing disk"),
        "size": _SIZE,
        "disk_size": _SIZE,
        "disk_tier": _TIER,
        "storage_type": Field(("text",), "network or instance disk", choices=("network", "instance")),
        "attach_mode": Field(
            ("text",), "read and write, or read only", choices=("read_write", "read_only", "rw", "ro")
        ),
        "auto_delete": Field(("boolean",), "delete it with the cluster"),
    },
)

JOB_RECOVERY = Section(
    "resources.job_recovery",
    {
        "strategy": Field(("text",), "how a managed job recovers"),
        "max_run_time": Field(("integer", "number", "text"), "how long a task may run in all, like 90m or 36h"),
        "keep_on_failure": Field(
            ("boolean", "integer", "number", "text"),
            "keep the cluster of a task that failed: true, or for how long",
        ),
        "max_restarts_on_errors": Field(("integer",), "restarts after failures of the job itself", least=0),
        "recover_on_exit_codes": Field(
            ("integer", "list"),
            "exit codes that are worth a restart",
            values=Field(("integer",), "an exit code", least=0, most=255),
            least=0,
            most=255,
        ),
        "max_cost": Field(("number",), "USD that the whole job may cost", least=0),
        "on_max_cost": Field(("text",), "what is done before that is spent", choices=("stop", "spot")),
        "deadline": Field(("integer", "number", "text"), "strategy DEADLINE: when it has to end, like 20h"),
        "work": Field(("integer", "number", "text"), "how long it computes, like 12h"),
        "restart_overhead": Field(("integer", "number", "text"), "what a restart takes, like 12m"),
        "policy": Field(("text",), "strategy DEADLINE: which policy decides, as of sky simulate"),
    },
)

_ACCELERATOR_KINDS = ("text", "mapping", "list")

_RESOURCES: dict[str, Field] = {
    "infra": Field(("text",), "where to run: cloud/region/zone"),
    "cloud": Field(("text",), "where to run (old form of infra)"),
    "region": Field(("text",), "region (old form of infra)"),
    "zone": Field(("text",), "zone (old form of infra)"),
    "accelerators": Field(_ACCELERATOR_KINDS, "accelerators per node, like H100:8", values=None),
    "gpus": Field(_ACCELERATOR_KINDS, "another word for accelerators"),
    "accelerator_args": Field(
        ("mapping",),
        "settings of a TPU",
        section=Section(
            "resources.accelerator_args",
            {
                "runtime_version": Field(("text", "number"), "version of the TPU's software"),
                "tpu_name": _TEXT,
                "tpu_vm": _BOOL,
                "gcp_queued_resource": _BOOL,
            },
        ),
    ),
    "cpus": Field(("number", "text"), "vCPUs per node, like 4 or 4+"),
    "memory": Field(("number", "text"), "memory per node in GB, like 16, 16+, 16GB+ or 4x"),
    "instance_type": Field(("text",), "exactly this type of instance"),
    "use_spot": Field(("boolean",), "rent capacity that may be taken away"),
    "job_recovery": Field(("text", "mapping"), "how a managed job recovers", section=JOB_RECOVERY),
    "spot_recovery": Field(("text", "mapping"), "old name of job_recovery", section=JOB_RECOVERY),
    "disk_size": _SIZE,
    "disk_tier": _TIER,
    "network_tier": Field(("text",), "speed of the network between nodes", choices=NETWORK_TIERS),
    "local_disk": Field(("text", "number"), "a disk in the instance, like nvme:300+"),
    "ephemeral_storage": Field(("number", "text"), "deprecated; see local_disk"),
    "max_hourly_cost": Field(("number",), "highest price per node and hour in dollars"),
    "ports": Field(("integer", "text", "list"), "ports to open", values=Field(("integer", "text"), "a port or range")),
    "image_id": Field(("text", "mapping"), "image of the machine, or docker:IMAGE", values=_TEXT),
    "labels": Field(("mapping",), "labels on the instances", values=_TEXT),
    "volumes": Field(("list",), "disks to attach", values=Field(("mapping",), "a disk", section=RESOURCE_VOLUME)),
    "autostop": Field(
        ("boolean", "integer", "text", "mapping"), "when an idle cluster stops", section=AUTOSTOP, least=0
    ),
    "priority": Field(("integer",), "rank among waiting jobs", least=-1000, most=1000),
    "priority_class": Field(("text",), "named rank of the infra's own scheduler"),
}

_RESOURCES_ELSEWHERE = {
    "hooks": "hooks belong under 'config.hooks' of the task",
    "num_nodes": "'num_nodes' belongs to the task, beside 'resources'",
    "run": "'run' belongs to the task, beside 'resources'",
    "setup": "'setup' belongs to the task, beside 'resources'",
    "envs": "'envs' belongs to the task, beside 'resources'",
    "workdir": "'workdir' belongs to the task, beside 'resources'",
}

#: One candidate inside ``any_of`` or ``ordered``.
CANDIDATE = Section("resources", _RESOURCES, _RESOURCES_ELSEWHERE, internal=True)

_CANDIDATES = Field(("list",), "candidates", values=Field(("mapping",), "one candidate", section=CANDIDATE))

RESOURCES = Section(
    "resources",
    {**_RESOURCES, "any_of": _CANDIDATES, "ordered": _CANDIDATES},
    _RESOURCES_ELSEWHERE,
    internal=True,
)

MOUNT_CACHED = Section(
    "config.mount_cached",
    {
        "transfers": Field(("integer",), "parallel transfers", least=1),
        "buffer_size": _TEXT,
        "vfs_cache_max_size": _TEXT,
        "vfs_cache_max_age": _TEXT,
        "vfs_read_ahead": _TEXT,
        "vfs_read_chunk_size": _TEXT,
        "vfs_read_chunk_streams": Field(("integer",), "parallel streams", least=0),
        "vfs_write_back": _TEXT,
        "read_only": _BOOL,
    },
)

STORAGE_CONFIG = Section(
    "storage config",
    {
        "mount": Field(
            ("mapping",),
            "settings of a plain mount",
            section=Section("config.mount", {"read_only": _BOOL, "hf_mount_args": _ANYTHING}),
        ),
        "mount_cached": Field(("mapping",), "settings of a cached mount", section=MOUNT_CACHED),
        "disk_size": _SIZE,
        "disk_tier": _TIER,
        "storage_type": Field(("text",), "network or instance disk", choices=("network", "instance")),
        "attach_mode": Field(
            ("text",), "read and write, or read only", choices=("read_write", "read_only", "rw", "ro")
        ),
    },
)

STORAGE = Section(
    "storage",
    {
        "name": Field(("text",), "name of the bucket"),
        "source": Field(("text", "list"), "local paths or a bucket's address", values=_TEXT),
        "store": Field(("text",), "which object store", choices=STORE_TYPES),
        "persistent": Field(("boolean",), "keep the bucket after the cluster"),
        "mode": Field(("text",), "how nodes see it", choices=STORAGE_MODES),
        "type": Field(("text",), "preset of cached-mount settings", choices=FILE_MOUNT_TYPES),
        "config": Field(("mapping",), "settings of the mount", section=STORAGE_CONFIG),
    },
    internal=True,
)

VOLUME_CONFIG = Section(
    "volume config",
    {
        "storage_class_name": _TEXT,
        "access_mode": Field(
            ("text",),
            "who may mount it",
            choices=(
                *("RWO", "RWOP", "RWX", "ROX"),
                "ReadWriteOnce",
                "ReadWriteOncePod",
                "ReadWriteMany",
                "ReadOnlyMany",
            ),
        ),
        "namespace": _TEXT,
        "host_path": _TEXT,
        "cleanup_on_deletion": _BOOL,
    },
    open=True,
)

#: A volume in a task; which of its keys go together is told by ``volumes.py``.
TASK_VOLUME = Section(
    "volumes",
    {
        "name": Field(("text",), "an existing volume"),
        "sub_path": Field(("text",), "a folder inside it"),
        "size": _SIZE,
        "type": Field(("text",), "kind of volume"),
        "labels": Field(("mapping",), "labels", values=_TEXT),
        "config": Field(("mapping",), "settings", section=VOLUME_CONFIG),
        "host_path": Field(("text",), "a folder of the node"),
    },
)

_PROBE = Section(
    "readiness_probe",
    {
        "path": Field(("text",), "path that answers when ready"),
        "initial_delay_seconds": _SECONDS,
        "timeout_seconds": _SECONDS,
        "endpoint_probe_interval_seconds": _SECONDS,
        "consecutive_failure_threshold_timeout": _SECONDS,
        "post_data": Field(("text", "mapping"), "body of a POST"),
        "headers": Field(("mapping",), "headers of the probe", values=_TEXT),
    },
)

_REPLICA_POLICY = Section(
    "replica_policy",
    {
        "min_replicas": _COUNT,
        "max_replicas": _COUNT,
        "num_overprovision": _COUNT,
        "target_qps_per_replica": Field(
            ("number", "mapping"),
            "requests per second of one replica",
            values=Field(("number",), "requests per second"),
        ),
        "dynamic_ondemand_fallback": _BOOL,
        "base_ondemand_fallback_replicas": _COUNT,
        "spot_placer": Field(("text",), "how spot replicas are spread"),
        "upscale_delay_seconds": _SECONDS,
        "downscale_delay_seconds": _SECONDS,
    },
)

SERVICE = Section(
    "service",
    {
        "readiness_probe": Field(("text", "mapping"), "how to see that a replica is ready", section=_PROBE),
        "replicas": _COUNT,
        "replica_policy": Field(("mapping",), "how many replicas, and when", section=_REPLICA_POLICY),
        "load_balancing_policy": Field(("text",), "which replica is asked", choices=LOAD_BALANCING_POLICIES),
        "load_balancer": Field(
            ("mapping",), "the load balancer", section=Section("load_balancer", {"stream_timeout_seconds": _SECONDS})
        ),
        "ports": Field(("integer", "text"), "the port that replicas listen on"),
        "tls": Field(
            ("mapping",), "key and certificate", section=Section("tls", {"keyfile": _TEXT, "certfile": _TEXT})
        ),
    },
    {"pool": "a pool is declared by 'pool' beside 'service', not inside it"},
    internal=True,
)

POOL = Section(
    "pool",
    {
        "workers": _COUNT,
        "min_workers": _COUNT,
        "max_workers": _COUNT,
        "queue_length_threshold": Field(("integer",), "jobs that may wait before another worker is begun", least=1),
        "upscale_delay_seconds": _SECONDS,
        "downscale_delay_seconds": _SECONDS,
    },
    {
        name: "a pool has workers; it takes no requests"
        for name in ("load_balancing_policy", "load_balancer", "ports", "readiness_probe", "tls", "replicas")
    }
    | {"spot_placer": "a pool has no spot placer", "replica_policy": "use 'min_workers' and 'max_workers'"},
)

_HOOK = Section(
    "config.hooks",
    {
        "run": Field(("text",), "a script"),
        "events": Field(("list",), "when it runs", values=Field(("text",), "an event", choices=HOOK_EVENTS)),
        "timeout": Field(("integer",), "seconds", least=1),
    },
)


def _open_section(name: str, *keys: str) -> Field:
    return Field(("mapping",), f"settings of {name}", section=Section(f"config.{name}", dict.fromkeys(keys, _ANYTHING)))


_KUBERNETES_KEYS = ("custom_metadata", "pod_config", "provision_timeout", "dws", "kueue", "quota", "remote_identity")

#: What a task may override of the configuration; everything else there is the administrator's or the user's.
TASK_CONFIG = Section(
    "config",
    {
        "hooks": Field(
            ("list",), "scripts run before a node goes", values=Field(("mapping",), "a hook", section=_HOOK)
        ),
        "docker": _open_section("docker", "run_options"),
        "nvidia_gpus": _open_section("nvidia_gpus", "disable_ecc"),
        "ssh": _open_section("ssh", "custom_metadata", "pod_config", "provision_timeout"),
        "kubernetes": _open_section("kubernetes", *_KUBERNETES_KEYS, "enable_docker", "set_pod_resource_limits"),
        "azure": _open_section("azure", "remote_identity", "vpc_name"),
        "gcp": _open_section(
            "gcp",
            *("vpc_name", "subnet_names", "managed_instance_group", "enable_gvnic", "enable_gpu_direct"),
            "placement_policy",
        ),
        "vast": _open_section("vast", "datacenter_only", "create_instance_kwargs"),
        "slurm": _open_section("slurm", "sbatch_options", "quota", "cpu_partition"),
        "active_workspace": _TEXT,
    },
)

_DURATION = Field(("number", "text"), "seconds, or like 30s, 10m, 2h")

CHECKPOINT = Section(
    "checkpoint",
    {
        "path": Field(("text",), "the folder on the node that holds the checkpoints"),
        "every": Field(("number", "text"), "how often there should be one: seconds, or like 10m"),
        "max_size": Field(("number", "text"), "what one may take: GB, or with a unit"),
    },
)

PROGRESS = Section(
    "progress",
    {
        "pattern": Field(("text",), "regular expression on lines of the log: a share of 1, or two numbers"),
        "duration": Field(("number", "text"), "how long it takes: seconds, or like 2h"),
    },
)

ON_OOM = Section(
    "on_oom",
    {
        "grow": Field(("number", "text"), "how many times as much memory is asked for, like 2x"),
        "max": Field(("number", "text"), "the most memory to ask for: GB, or with a unit"),
        "gpu": Field(("text",), "take the GPU with the next larger memory", choices=("next",)),
    },
)

ON_PREEMPTION = Section(
    "on_preemption",
    {
        "signal": Field(
            ("text",),
            "sent to the task",
            choices=tuple(f"{prefix}{name}" for name in SIGNALS for prefix in ("", "SIG")),
        ),
        "grace": _DURATION,
        "run": Field(("text",), "a script that is run on the node, once"),
    },
)

_ONE_VALUE = Field(("text", "number", "boolean"), "a value")

SWEEP = Section(
    "sweep",
    {
        "matrix": Field(
            ("mapping",), "variables with their values", values=Field(("list",), "a list of values", values=_ONE_VALUE)
        ),
        "exclude": Field(
            ("list",),
            "combinations that are left out",
            values=Field(("mapping",), "variables with a value each", values=_ONE_VALUE),
        ),
        "max_parallel": Field(("integer",), "how many run at the same time", least=1),
    },
)

_SCRIPT = Field(("text", "list"), "a shell script", values=_TEXT)
_VARIABLES = Field(
    ("mapping",), "variables by name", values=Field(("text", "number", "boolean"), "a value"), nullable_values=True
)
_TRAFFIC = Field(("mapping",), "address and size in GB", values=Field(("number",), "GB", least=0))

TASK = Section(
    "the task",
    {
        "name": Field(("text",), "name of the task"),
        "workdir": Field(
            ("text", "mapping"),
            "a folder to sync, or a git repository",
            section=Section("workdir", {"url": _TEXT, "ref": _TEXT}),
        ),
        "num_nodes": Field(("integer",), "how many nodes", least=1),
        "resources": Field(("mapping",), "what each node needs", section=RESOURCES),
        "setup": _SCRIPT,
        "run": _SCRIPT,
        "envs": _VARIABLES,
        "secrets": Field(
            ("mapping", "list"), "secret variables by name", values=_VARIABLES.values, nullable_values=True
        ),
        "managed_secrets": Field(
            ("list",),
            "secrets kept by the server",
            values=Field(("text", "mapping"), "a name, or {name: {mount_path}}"),
        ),
        "file_mounts": Field(
            ("mapping",),
            "destination: source",
            values=Field(("text", "mapping"), "a path, address or storage", section=STORAGE),
        ),
        "volumes": Field(
            ("mapping",), "path: volume", values=Field(("text", "mapping"), "a volume", section=TASK_VOLUME)
        ),
        "service": Field(("mapping",), "run it as a service", section=SERVICE),
        "pool": Field(("mapping",), "run it as a pool of workers", section=POOL),
        "checkpoint": Field(("text", "mapping"), "where the task saves its state", section=CHECKPOINT),
        "progress": Field(("mapping",), "how to see how far the task is", section=PROGRESS),
        "on_oom": Field(("mapping",), "what to ask for when memory was not enough", section=ON_OOM),
        "on_preemption": Field(("mapping",), "what is done when a machine will be taken away", section=ON_PREEMPTION),
        "depends_on": Field(("list",), "names of the tasks of this file that are to succeed before", values=_TEXT),
        "sweep": Field(("mapping",), "one managed job for each combination of values", section=SWEEP),
        "config": Field(("mapping",), "overrides of the configuration", section=TASK_CONFIG),
        "inputs": _TRAFFIC,
        "outputs": _TRAFFIC,
        "event_callback": Field(("text",), "a script run at changes of a managed job"),
        "notify": Field(
            ("list", "mapping"),
            "who is told when a managed job changes: `webhook` or `command`, `secret`, `on`",
            values=Field(("mapping", "list", "text"), "a webhook, a command, what it is told of"),
        ),
        "api_server_access": Field(("boolean",), "give managed jobs access to the API server"),
        "file_mounts_mapping": _OPEN_MAP,
        "volume_mounts": Field(("list", "mapping"), "internal"),
        "_metadata": _OPEN_MAP,
        "experimental": Field(
            ("mapping",),
            "old place of config",
            section=Section(
                "experimental",
                {"config_overrides": Field(("mapping",), "old name of config", section=TASK_CONFIG)},
            ),
        ),
    },
    {
        **{name: f"'{name}' belongs under 'resources'" for name in _RESOURCES if name not in ("volumes", "image_id")},
        "image_id": "'image_id' belongs under 'resources'",
        "any_of": "'any_of' belongs under 'resources'",
        "ordered": "'ordered' belongs under 'resources'",
        "hooks": "hooks belong under 'config.hooks'",
        "env": "did you mean 'envs'?",
        "environment": "did you mean 'envs'?",
        "command": "did you mean 'run'?",
        "commands": "did you mean 'run'?",
        "nodes": "did you mean 'num_nodes'?",
    },
)

#: The first document of a pipeline or job group.
HEADER = Section(
    "the header",
    {
        "name": Field(("text",), "name of the pipeline or job group"),
        "execution": Field(("text",), "one after another or all together", choices=("serial", "parallel")),
        "primary_tasks": Field(("list",), "tasks whose end ends the group", values=_TEXT),
        "termination_delay": Field(
            ("number", "text", "mapping"),
            "seconds that the other tasks go on",
            values=Field(("number", "text"), "seconds, or like 30s"),
            least=0,
        ),
        "inter_connection": Field(("boolean",), "let the tasks reach each other"),
    },
)
