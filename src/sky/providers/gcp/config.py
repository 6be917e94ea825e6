"""The `gcp` section of the configuration as this provider understands it; checked here, since no other room does.

Read for every launch: what a user changes holds from the next one on.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sky.core.model.schema import Field, Problems, Section, check_section

_TEXT = Field(("text",), "a text")
_BOOL = Field(("boolean",), "a switch")
_SECONDS = Field(("number",), "seconds", least=0)
_NAMES = Field(("text", "list"), "one or several names", values=_TEXT)

#: Everything that may stand under `gcp`. `endpoint` is for tests and emulators: it takes no credentials.
SECTION = Section(
    "gcp",
    {
        "project_id": Field(("text",), "the project that pays"),
        "endpoint": Field(("text",), "another Compute Engine, without credentials"),
        "disabled": _BOOL,
        "vpc_name": Field(("text",), "a network: NAME or PROJECT/NAME"),
        "subnet_names": _NAMES,
        "use_internal_ips": _BOOL,
        "force_enable_external_ips": _BOOL,
        "ssh_proxy_command": Field(("text", "mapping"), "a command, or one by region", values=_TEXT),
        "prioritize_reservations": _BOOL,
        "specific_reservations": Field(("list",), "names of reservations", values=_TEXT),
        "managed_instance_group": Field(
            ("mapping",),
            "queued capacity",
            section=Section("gcp.managed_instance_group", {"run_duration": _SECONDS, "provision_timeout": _SECONDS}),
        ),
        "placement_policy": Field(("text",), "how machines lie to each other", choices=("compact",)),
        "enable_gvnic": _BOOL,
        "enable_gpu_direct": _BOOL,
        "labels": Field(("mapping",), "labels of all machines", values=_TEXT),
        "capabilities": Field(("list",), "what is used of this cloud", values=_TEXT),
        "remote_identity": Field(
            ("text", "list"),
            "a service account, or one by cluster name",
            values=Field(("mapping",), "pattern: account"),
        ),
    },
)

_PROJECT = re.compile(r"(?:[a-z0-9.-]+:)?[a-z0-9][a-z0-9-]{0,62}")
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
_VPC = re.compile(rf"(?:{_PROJECT.pattern}/)?{_NAME.pattern}")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
#: How long a queued request for capacity runs and is waited for where only one of both is set, in seconds.
_RUN_S = 7 * 24 * 3600.0
_WAIT_S = 900.0


@dataclass(frozen=True, slots=True)
class Queue:
    """How machines are asked for through a managed instance group: how long they run, how long they are waited for."""

    run_s: float
    wait_s: float


@dataclass(frozen=True, slots=True)
class GcpConfig:
    """The section, checked. Texts are empty and collections too where a key is not given."""

    project_id: str = ""
    endpoint: str = ""
    vpc: str = ""
    vpc_project: str = ""
    subnets: tuple[str, ...] = ()
    internal_ips: bool = False
    external_too: bool = False
    proxy: Mapping[str, str] = field(default_factory=dict)
    prefer_reservations: bool = False
    reservations: tuple[str, ...] = ()
    queue: Queue | None = None
    compact: bool = False
    gvnic: bool = False
    gpu_direct: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    identities: tuple[tuple[str, str], ...] = ()

    @property
    def network(self) -> str:
        """The network's name."""
        return self.vpc or "default"

    def proxy_command(self, region: str) -> str:
        """How SSH gets to machines of a region; empty if directly."""
        return self.proxy.get(region, self.proxy.get("*", ""))

    def service_account(self, cluster_name: str) -> str:
        """Whose rights programs on the machines have: an e-mail address, `default`, or empty for nobody's."""
        wanted = next((who for glob, who in self.identities if fnmatchcase(cluster_name, glob)), "")
        if wanted.upper() in ("", "LOCAL_CREDENTIALS", "NO_UPLOAD", "NONE"):
            return ""
        return "default" if wanted.upper() == "SERVICE_ACCOUNT" else wanted


def read_config(given: Mapping[str, object]) -> GcpConfig:
    """The section as it was given. Raises InvalidSkyPilotConfigError with all that is wrong."""
    problems = Problems("config")
    check_section(given, SECTION, ("gcp",), problems)
    problems.raise_if_any()
    values = {key: value for key, value in given.items() if value is not None}
    project, _, vpc = _text(values, "vpc_name").rpartition("/")
    made = GcpConfig(
        project_id=_text(values, "project_id"),
        endpoint=_text(values, "endpoint").rstrip("/"),
        vpc=vpc,
        vpc_project=project,
        subnets=_texts(values.get("subnet_names")),
        internal_ips=bool(values.get("use_internal_ips")),
        external_too=bool(values.get("force_enable_external_ips")),
        proxy=_proxy(values.get("ssh_proxy_command")),
        prefer_reservations=bool(values.get("prioritize_reservations")),
        reservations=_texts(values.get("specific_reservations")),
        queue=_queue(values.get("managed_instance_group")),
        compact=_text(values, "placement_policy").lower() == "compact",
        gvnic=bool(values.get("enable_gvnic")),
        gpu_direct=bool(values.get("enable_gpu_direct")),
        labels=_labels(values.get("labels")),
        identities=_identities(values.get("remote_identity")),
    )
    _check_names(values, made)
    return made


def _check_names(values: Mapping[str, object], made: GcpConfig) -> None:
    problems = Problems("config")
    if made.project_id and not _PROJECT.fullmatch(made.project_id):
        problems.add(("gcp", "project_id"), f"found '{made.project_id[:80]}'; allowed: the id of a project")
    if "vpc_name" in values and not _VPC.fullmatch(_text(values, "vpc_name")):
        problems.add(("gcp", "vpc_name"), f"found '{_text(values, 'vpc_name')[:80]}'; allowed: NAME or PROJECT/NAME")
    for name in made.subnets:
        if not _NAME.fullmatch(name):
            problems.add(("gcp", "subnet_names"), f"found '{name[:80]}'; allowed: names of subnets")
    for key, value in made.labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            rule = f"a key like {_LABEL_KEY.pattern} and a value like {_LABEL_VALUE.pattern}"
            problems.add(("gcp", "labels", key[:80]), f"found '{value[:80]}'; allowed: {rule}")
    problems.raise_if_any()


def _text(values: Mapping[str, object], key: str) -> str:
    return str(values.get(key, "")).strip()


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else ()


def _proxy(value: object) -> Mapping[str, str]:
    if isinstance(value, Mapping):
        return {str(region): str(command) for region, command in value.items() if command}
    return {"*": str(value)} if value else {}


def _queue(value: object) -> Queue | None:
    if not isinstance(value, Mapping):
        return None
    run, wait = value.get("run_duration"), value.get("provision_timeout")
    return Queue(_RUN_S if run is None else float(run), _WAIT_S if wait is None else float(wait))


def _labels(value: object) -> Mapping[str, str]:
    return {str(key): str(text) for key, text in value.items()} if isinstance(value, Mapping) else {}


def _identities(value: object) -> tuple[tuple[str, str], ...]:
    """Pairs of a pattern of cluster names and an account, the first that fits wins."""
    if isinstance(value, str):
        return (("*", value),)
    if not isinstance(value, list | tuple):
        return ()
    pairs = tuple((str(glob), str(who)) for each in value if isinstance(each, Mapping) for glob, who in each.items())
    return pairs
