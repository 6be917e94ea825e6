"""The only place where adapters meet the engine: `build` makes a control plane from settings."""

from functools import partial
from pathlib import Path

from sky.engine.access import AccessBoard
from sky.engine.catalog import CatalogCare
from sky.engine.plane import ControlPlane
from sky.engine.plans import Planner
from sky.engine.retention import REQUESTS_H, Retention
from sky.engine.talk import FileTalk
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.providers.registry import Registry
from sky.remote.keys import KeyRing
from sky.remote.shell import Shells
from sky.server.blobs import blob_path, prune
from sky.server.catalog import CatalogHome
from sky.server.configuration import ConfigFile, read_user_yaml
from sky.server.fleet import NodeFleet
from sky.server.settings import Settings
from sky.store.sqlite import SqliteStore


def build(settings: Settings) -> ControlPlane:
    """A control plane with everything under `settings.state_dir`; not started yet. Call within the owning process."""
    root = settings.state_dir
    signals = Signals()

    def blob(name: str) -> Path:
        return blob_path(root / "blobs", name)

    store, clock, talk = SqliteStore(root / "state.db"), SystemClock(), FileTalk(root / "requests", signals)
    config = ConfigFile(settings.config)

    def hours() -> float:
        said = config.section("api_server").get("requests_retention_hours")
        return float(said) if isinstance(said, int | float) else REQUESTS_H

    keys = KeyRing(root / "keys")

    def secret(cloud: str, name: str) -> str | None:
        return registry.secret(cloud, name)

    shells = Shells(keys, secret)
    registry = Registry(
        root, config.section, installation=keys.installation, keys=keys, shell=shells.of, read_yaml=read_user_yaml
    )
    catalogs = CatalogHome(root / "catalog", registry, partial(config.section, "catalog"))
    access = AccessBoard(registry, clock)
    return ControlPlane(
        store=store,
        providers=registry,
        fleet=NodeFleet(blob, keys, registry.secret, partial(config.section, "provision")),
        clock=clock,
        signals=signals,
        talk=talk,
        catalogs=catalogs,
        access=access,
        section=config.section,
        configuration=config.whole,
        closing=(registry.close, shells.close),
        planner=Planner(registry, catalogs, access, store, clock, config.section, config.allowed_clouds),
        care=CatalogCare(catalogs, access.enabled, clock, partial(config.section, "catalog")),
        retention=Retention(store, talk, partial(prune, root / "blobs"), clock, hours),
    )
