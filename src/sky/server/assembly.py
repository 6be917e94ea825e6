"""The only place where adapters meet the engine: `build` makes a control plane from settings."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sky.engine.access import AccessBoard
from sky.engine.catalog import CatalogCare
from sky.engine.desk import Talk
from sky.engine.duties import Alone, Among, Duties
from sky.engine.managed_logs import ManagedLogs
from sky.engine.parts import Parts
from sky.engine.plane import ControlPlane
from sky.engine.plans import Planner
from sky.engine.retention import Kept, Retention, kept_of
from sky.engine.talk import FileTalk, RecordTalk
from sky.kit.boot import boot_id
from sky.kit.clock import Clock, SystemClock
from sky.kit.signals import Signals
from sky.providers.registry import Registry
from sky.remote.keys import KeyRing
from sky.remote.shell import Shells
from sky.server.blobs import BlobStore, blob_path
from sky.server.catalog import CatalogHome
from sky.server.configuration import ConfigFile, read_user_yaml
from sky.server.couriers import Couriers
from sky.server.fleet import NodeFleet
from sky.server.job_access import JobAccess
from sky.server.objects import far_of
from sky.server.settings import Role, Settings
from sky.server.vault import KeyFile, hook_of
from sky.store.sealing import Sealer
from sky.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from sky.store.postgres import PostgresStore


def build(settings: Settings) -> ControlPlane:
    """A control plane with all files under `settings.files`; not started yet. Call within the owning process."""
    root = settings.files
    signals = Signals()

    def blob(name: str) -> Path:
        return blob_path(settings.passing / "blobs", name)

    clock = SystemClock()
    far = far_of(settings, clock.now)
    blobs = BlobStore(settings.passing / "blobs", far=far)
    config = ConfigFile(settings.config)
    vault = keys_of(settings, config)
    store, duties = _records(settings, signals, clock, Sealer(vault))
    said = settings.passing / "requests"
    talk: Talk = FileTalk(said, signals) if far is None else RecordTalk(said, signals, store.talk, clock)

    def kept() -> Kept:
        return kept_of(config.section("api_server"))

    keys = KeyRing(root / "keys")

    def secret(cloud: str, name: str) -> str | None:
        return registry.secret(cloud, name)

    shells = Shells(keys, secret)
    registry = Registry(
        root,
        config.section,
        installation=keys.installation,
        keys=keys,
        shell=shells.of,
        read_yaml=read_user_yaml,
        clusters=store.clusters.living,
    )
    catalogs = CatalogHome(root / "catalog", registry, partial(config.section, "catalog"))
    access = AccessBoard(registry, clock)
    fleet = NodeFleet(blob, keys, registry.secret, partial(config.section, "provision"), blobs.fetch)
    managed_logs = ManagedLogs(root / "managed_jobs", store, fleet, clock, signals, duties)
    couriers = Couriers(clock, config.section)
    parts = Parts(
        store=store,
        providers=registry,
        fleet=fleet,
        managed_logs=managed_logs,
        courier=couriers,
        grants=JobAccess(settings, store.users, clock, config.section),
        clock=clock,
        signals=signals,
        talk=talk,
        catalogs=catalogs,
        access=access,
        section=config.section,
        configuration=config.whole,
        closing=(registry.close, shells.close, couriers.close),
        planner=Planner(registry, catalogs, access, store, clock, config.section, config.allowed_clouds),
        care=CatalogCare(catalogs, access.enabled, clock, partial(config.section, "catalog"), duties),
        retention=Retention(store, talk, blobs.prune, clock, kept, duties, managed_logs),
        duties=duties,
        works=settings.role is not Role.API,
        new_key=vault.rotate,
        # A shared database has a disk of its own.
        boot=boot_id() if settings.database is None else "",
    )
    return ControlPlane(parts)


def keys_of(settings: Settings, config: ConfigFile) -> KeyFile:
    """The keys that records are sealed with. Raises ValueError for a hook that cannot be had."""
    section = config.section("encryption")
    named = section.get("key_file")
    path = Path(named).expanduser() if isinstance(named, str) and named else settings.files / "keys" / "sealing.keys"
    return KeyFile(path, hook_of(section))


def _records(
    settings: Settings, signals: Signals, clock: Clock, sealer: Sealer
) -> tuple[SqliteStore | PostgresStore, Duties]:
    """The store, and who does what only one may do: a server on a file of its own does everything."""
    if settings.database is None:
        return SqliteStore(settings.state_dir / "state.db", sealer), Alone()
    try:
        # The library is in an extra; a server on a file of its own needs none of it.
        from sky.store.postgres import CONNECTIONS, PostgresStore, Target  # noqa: PLC0415
    except ImportError as missing:
        raise ValueError(
            f"a database is named, and the library to reach it with is not installed ({missing.name}); "
            "install it with: pip install 'altostratus[postgres]'"
        ) from None
    named = settings.database
    shared = PostgresStore(Target(named.uri, named.pooled, named.connections or CONNECTIONS), signals, sealer)
    return shared, Among(shared.duties, clock, signals)
