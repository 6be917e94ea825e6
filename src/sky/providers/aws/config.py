"""The `aws` section of the configuration: what may stand there, and its reading into one value that verbs take."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from sky.core.model.schema import Field, Problems, Section, check_section

_TEXT = Field(("text",), "a text")
_TEXTS = Field(("list",), "a list of texts", values=_TEXT)
_GLOBS = Field(("mapping",), "a pattern of cluster names and what holds for them", values=_TEXT)

#: For the checker of the whole configuration, and for `read` below.
SECTION = Section(
    "aws",
    {
        "profile": Field(("text",), "the profile of ~/.aws/config to work under"),
        "disabled": Field(("boolean",), "whether this place is left out"),
        "capabilities": Field(
            ("list",),
            "what the place is used for",
            values=Field(("text",), "a use", choices=("compute", "storage")),
        ),
        "vpc_name": Field(("text",), "the Name tag of the network to use"),
        "vpc_names": Field(("text", "list"), "Name tags of networks, in order of preference", values=_TEXT),
        "subnet_names": Field(("text", "list"), "Name tags of subnets that may be used", values=_TEXT),
        "use_internal_ips": Field(("boolean",), "give machines no public address"),
        "ssh_proxy_command": Field(
            ("text", "mapping"),
            "a command that connects to a machine, or one for each region",
            values=_TEXT,
            nullable_values=True,
        ),
        "use_ssm": Field(("boolean",), "reach machines through Session Manager"),
        "security_group_name": Field(
            ("text", "list"), "the security group of machines, or one by pattern of cluster names", values=_GLOBS
        ),
        "disk_encrypted": Field(("boolean",), "encrypt the disks of machines"),
        "ssh_user": Field(("text",), "who logs in"),
        "prioritize_reservations": Field(("boolean",), "use open capacity reservations first"),
        "specific_reservations": Field(("list",), "ids of targeted capacity reservations", values=_TEXT),
        "labels": Field(("mapping",), "tags for all that is made", values=_TEXT),
        "enforce_tags": Field(("boolean",), "tag all that is made, which is done in any case"),
        "remote_identity": Field(
            ("text", "list"), "whose credentials machines have, or a role by pattern of cluster names", values=_GLOBS
        ),
        "post_provision_runcmd": Field(
            ("list",),
            "commands that machines run at their first start",
            values=Field(("text", "list"), "a command", values=_TEXT),
        ),
    },
    elsewhere={
        "region": "a region belongs into `infra: aws/<region>` of a task",
        "zone": "a zone belongs into `infra: aws/<region>/<zone>` of a task",
        "instance_type": "an instance type belongs into a task's resources",
    },
)

#: The role of the interface's SERVICE_ACCOUNT: an instance profile of this name.
SERVICE_ROLE = "skypilot-v1"
_NO_ROLE = ("LOCAL_CREDENTIALS", "NO_UPLOAD", "NONE")


@dataclass(frozen=True, slots=True)
class AwsConfig:
    """The section as values. `*_by_glob` are (pattern of cluster names, name), the first match holds."""

    profile: str | None = None
    vpc_names: tuple[str, ...] = ()
    subnet_names: tuple[str, ...] = ()
    use_internal_ips: bool = False
    proxy_command: str | None = None
    proxy_by_region: Mapping[str, str | None] = field(default_factory=dict)
    use_ssm: bool = False
    groups_by_glob: tuple[tuple[str, str], ...] = ()
    disk_encrypted: bool = False
    ssh_user: str = "ubuntu"
    prioritize_reservations: bool = False
    specific_reservations: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    roles_by_glob: tuple[tuple[str, str], ...] = ()
    first_commands: tuple[str | tuple[str, ...], ...] = ()

    def security_group(self, cluster_name: str) -> str | None:
        """The user's own group for this cluster; None where it gets one of ours."""
        return _matching(self.groups_by_glob, cluster_name)

    def role(self, cluster_name: str) -> str | None:
        """The instance profile whose credentials the machines have; None for no credentials at all."""
        named = _matching(self.roles_by_glob, cluster_name)
        if named is None or named.upper() in _NO_ROLE:
            return None
        return SERVICE_ROLE if named.upper() == "SERVICE_ACCOUNT" else named

    def proxy(self, region: str) -> str | None:
        """The command to connect through in this region."""
        return self.proxy_by_region.get(region) if self.proxy_by_region else self.proxy_command

    @property
    def private(self) -> bool:
        """Whether machines are reached by their private address, and get no other."""
        return self.use_internal_ips or self.use_ssm


def read(section: Mapping[str, object]) -> AwsConfig:
    """The section as values. Raises InvalidSkyPilotConfigError with all that is wrong, and the nearest right word."""
    problems = Problems("config")
    check_section(section, SECTION, ("aws",), problems)
    problems.raise_if_any()
    given = {key: value for key, value in section.items() if value is not None}
    proxy = given.get("ssh_proxy_command")
    names = (*_texts(given.get("vpc_name")), *_texts(given.get("vpc_names")))
    by_region = {str(key): None if value is None else str(value) for key, value in _mapping(proxy).items()}
    return AwsConfig(
        profile=_text(given.get("profile")),
        vpc_names=names,
        subnet_names=_texts(given.get("subnet_names")),
        use_internal_ips=given.get("use_internal_ips") is True,
        proxy_command=_text(proxy) if isinstance(proxy, str) else None,
        proxy_by_region=by_region,
        use_ssm=given.get("use_ssm") is True,
        groups_by_glob=_globs(given.get("security_group_name")),
        disk_encrypted=given.get("disk_encrypted") is True,
        ssh_user=_text(given.get("ssh_user")) or "ubuntu",
        prioritize_reservations=given.get("prioritize_reservations") is True,
        specific_reservations=_texts(given.get("specific_reservations")),
        labels={str(key): str(value) for key, value in _mapping(given.get("labels")).items()},
        roles_by_glob=_globs(given.get("remote_identity")),
        first_commands=_commands(given.get("post_provision_runcmd")),
    )


def _matching(by_glob: Sequence[tuple[str, str]], cluster_name: str) -> str | None:
    return next((name for glob, name in by_glob if fnmatchcase(cluster_name, glob)), None)


def _text(value: object) -> str | None:
    return str(value) if value else None


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(each) for each in value) if isinstance(value, list | tuple) else ()


def _mapping(value: object) -> Mapping[object, object]:
    return value if isinstance(value, Mapping) else {}


def _globs(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, str):
        return (("*", value),)
    entries = value if isinstance(value, list | tuple) else ()
    return tuple((str(glob), str(name)) for entry in entries for glob, name in _mapping(entry).items())


def _commands(value: object) -> tuple[str | tuple[str, ...], ...]:
    entries = value if isinstance(value, list | tuple) else ()
    return tuple(each if isinstance(each, str) else _texts(each) for each in entries)
