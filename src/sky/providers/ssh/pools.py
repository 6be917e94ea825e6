"""The machines that the user names in `~/.sky/ssh_node_pools.yaml` (or gave to `sky ssh up --file`), and ways to them.

Read anew whenever a file has changed. Passwords stay here: a way to a machine only has the name of its password.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sky.core.errors import InvalidSkyPilotConfigError, not_supported
from sky.core.model.schema import Field, Problems, Section, check, check_section, nearest
from sky.providers.registry import ReadYaml, Settings
from sky.providers.ssh_hosts import SshHosts

_TEXT = ("text",)
_ACCESS = {
    "user": Field(_TEXT, "who logs in"),
    "identity_file": Field(_TEXT, "a file with a private key"),
    "password": Field(_TEXT, "a password"),
}
_HOST = Section(
    "a host",
    {
        **_ACCESS,
        "ip": Field(_TEXT, "an address, or a Host of ~/.ssh/config"),
        "port": Field(("integer",), "the port of sshd", least=1, most=65535),
    },
)
_POOL = Section(
    "a pool",
    {
        **_ACCESS,
        "hosts": Field(("list",), "its machines", values=Field(("text", "mapping"), "a host", section=_HOST)),
    },
)
_POOLS = Field(("mapping",), "pools by name", values=Field(("mapping",), "a pool", section=_POOL))
#: The section `ssh` of the configuration.
_SECTION = Section(
    "ssh",
    {
        "allowed_node_pools": Field(("list",), "pools that may be used", values=Field(_TEXT, "a pool")),
        "exclusive": Field(("boolean",), "whether each node has a machine for itself"),
        **{key: Field(("mapping", "text", "number"), "a setting of pods")
           for key in ("context_configs", "pod_config", "provision_timeout", "custom_metadata")},
    },
)  # fmt: skip
#: What means something only where pods are made.
_OF_PODS = ("context_configs", "pod_config", "custom_metadata")
_MOST_MACHINES = 10_000


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a pool, by the name that it has there; `reach` in the keys of `Instance.reach`, no secret in it."""

    pool: str
    name: str
    reach: Mapping[str, str]

    @property
    def key(self) -> str:
        """Its name among all pools."""
        return f"{self.pool}/{self.name}"

    @property
    def place(self) -> tuple[str, str]:
        """Where it is: one machine may be in several pools."""
        return (self.reach["host"], self.reach.get("port", "22"))


def checked(section: Mapping[str, object]) -> Mapping[str, object]:
    """The section `ssh`. Raises InvalidSkyPilotConfigError with the nearest key, NotSupportedError."""
    problems = Problems("config")
    check_section(section, _SECTION, ("ssh",), problems)
    problems.raise_if_any()
    for key in _OF_PODS:
        if section.get(key):
            raise not_supported(f"ssh.{key}", "pools of machines, where no pods are made")
    return section


class Pools:
    """The pools as the files have them now."""

    def __init__(self, settings: Settings) -> None:
        self._home = settings.home
        self._file = settings.home / ".sky" / "ssh_node_pools.yaml"
        self._given = settings.state_dir / "pools"
        self._config = settings.config
        self._read_yaml = settings.read_yaml
        self._seen: object = None
        self._machines: Mapping[str, tuple[Machine, ...]] = {}
        self._passwords: dict[str, str] = {}

    def exist(self) -> bool:
        """Whether any pool was ever named."""
        return self._file.exists() or any(self._given.glob("*.yaml"))

    def machines(self) -> Mapping[str, tuple[Machine, ...]]:
        """All pools that may be used, with their machines. Raises InvalidSkyPilotConfigError with file and line."""
        every = self.named()
        allowed = checked(self._config()).get("allowed_node_pools")
        if not isinstance(allowed, list | tuple):
            return every
        return {pool: found for pool, found in every.items() if pool in allowed}

    def named(self) -> Mapping[str, tuple[Machine, ...]]:
        """All pools, whether or not they may be used. Raises InvalidSkyPilotConfigError with file and line."""
        seen = self._stamp()
        if seen != self._seen:
            self._passwords = {}
            found: dict[str, tuple[Machine, ...]] = {}
            config = SshHosts(self._home / ".ssh" / "config", self._home)
            files = [self._file, *sorted(self._given.glob("*.yaml"))]
            for path in files:
                only = path.stem if path.parent == self._given else None
                for pool, values in self._pools_of(path).items():
                    if only is None or _stem(pool) == only:
                        found[pool] = self._of_pool(pool, values, config)
            self._machines, self._seen = found, seen
        return self._machines

    def pool(self, name: str) -> tuple[Machine, ...]:
        """The machines of one pool. Raises InvalidSkyPilotConfigError with the nearest name where there is none."""
        pools = self.machines()
        if name not in pools:
            meant = nearest(name, pools)
            ask = f"; did you mean '{meant}'?" if meant else f"; there are: {', '.join(pools) or 'none'}"
            raise InvalidSkyPilotConfigError(f"there is no SSH pool '{name}' in {self._file}{ask}")
        return pools[name]

    def password(self, key: str) -> str | None:
        """A machine's password, as the file has it now."""
        self.machines()
        return self._passwords.get(key)

    def give(self, text: str) -> list[str]:
        """Take pools from a text that the user sent along; they win over those of the file. Their names."""
        pools = self._pools_in(text.encode(), "the file")
        self._given.mkdir(mode=0o700, parents=True, exist_ok=True)
        for pool in pools:
            path = self._given / f"{_stem(pool)}.yaml"
            fresh = path.with_suffix(f".{secrets.token_hex(4)}")
            # It may hold passwords.
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
            fresh.replace(path)
        return list(pools)

    def take_back(self, pool: str) -> None:
        """Forget what was given for a pool; what the file says holds again."""
        (self._given / f"{_stem(pool)}.yaml").unlink(missing_ok=True)

    def _stamp(self) -> object:
        paths = [self._file, self._home / ".ssh" / "config", *sorted(self._given.glob("*.yaml"))]
        return [(str(path), path.stat().st_mtime_ns, path.stat().st_ino) for path in paths if path.exists()]

    def _pools_of(self, path: Path) -> Mapping[str, Mapping[str, object]]:
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InvalidSkyPilotConfigError(f"{path} cannot be read: {error.strerror}") from None
        return self._pools_in(text, str(path).replace(str(self._home), "~", 1))

    def _pools_in(self, text: bytes, source: str) -> Mapping[str, Mapping[str, object]]:
        data, locate = _reader(self._read_yaml)(text, source, "SSH pool")
        problems = Problems("SSH pool", locate)
        check(data, _POOLS, (), problems)
        pools = data if isinstance(data, Mapping) else {}
        for name, pool in pools.items():
            _check_pool(str(name), pool, problems)
        problems.raise_if_any()
        return {str(name): pool for name, pool in pools.items()}

    def _of_pool(self, pool: str, values: Mapping[str, object], config: SshHosts) -> tuple[Machine, ...]:
        hosts = values.get("hosts")
        made: dict[str, Machine] = {}
        for host in hosts if isinstance(hosts, list) else []:
            said: Mapping[str, object] = host if isinstance(host, Mapping) else {"ip": host}
            name = str(said["ip"])

            def value(key: str, said: Mapping[str, object] = said) -> str:
                found = said.get(key, values.get(key))
                return "" if found is None else str(found)

            over = {"user": value("user"), "identity": value("identity_file"), "port": value("port")}
            reach = config.reach(name, over=over)
            if password := value("password"):
                self._passwords[f"{pool}/{name}"] = password
                reach["secret"] = f"{pool}/{name}"
            made[name] = Machine(pool, name, reach)
        return tuple(made.values())


def _check_pool(name: str, pool: object, problems: Problems) -> None:
    if not name or "/" in name or name != name.strip():
        problems.add((name,), f"found the pool name '{name[:60]}'; allowed: a name without slashes")
    hosts = pool.get("hosts") if isinstance(pool, Mapping) else None
    if not isinstance(hosts, list) or not hosts:
        if not problems.spoils(name):
            problems.add((name,), "found a pool without hosts; allowed: hosts: [host1, {ip: 10.0.0.2, user: me}]")
        return
    if len(hosts) > _MOST_MACHINES:
        problems.add((name, "hosts"), f"found {len(hosts)} hosts; allowed: at most {_MOST_MACHINES}")
    for index, host in enumerate(hosts):
        address = host.get("ip") if isinstance(host, Mapping) else host
        where = (name, "hosts", index)
        if problems.spoils(*where):
            continue
        if not isinstance(address, str) or not address:
            problems.add(where, "found a host without ip; allowed: {ip: ADDRESS, user: NAME}")
        elif address.startswith("-") or any(each.isspace() or not each.isprintable() for each in address):
            problems.add(where, f"found the host '{address[:60]!r}'; allowed: an address or a Host of ~/.ssh/config")


def _stem(pool: str) -> str:
    """A file name for a pool, whose own name may hold anything."""
    return hashlib.sha256(pool.encode()).hexdigest()[:16]


def _reader(read: ReadYaml | None) -> ReadYaml:
    if read is None:
        raise InvalidSkyPilotConfigError("this installation has no reader of YAML for its providers")
    return read
