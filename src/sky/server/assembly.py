"""The only place where adapters meet the engine: `build` makes a control plane from settings."""

from pathlib import Path

from sky.engine.plane import ControlPlane
from sky.engine.talk import FileTalk
from sky.kit.clock import SystemClock
from sky.kit.signals import Signals
from sky.providers.registry import Registry
from sky.server.blobs import blob_path
from sky.server.configuration import ConfigFile
from sky.server.fleet import NodeFleet
from sky.server.settings import Settings
from sky.store.sqlite import SqliteStore


def build(settings: Settings) -> ControlPlane:
    """A control plane with everything under `settings.state_dir`; not started yet. Call within the owning process."""
    root = settings.state_dir
    signals = Signals()

    def blob(name: str) -> Path:
        return blob_path(root / "blobs", name)

    return ControlPlane(
        store=SqliteStore(root / "state.db"),
        providers=Registry(root, ConfigFile(settings.config).section),
        fleet=NodeFleet(blob),
        clock=SystemClock(),
        signals=signals,
        talk=FileTalk(root / "requests", signals),
    )
