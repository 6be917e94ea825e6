"""A household of its own for all tests: fresh home, an instance of Dagster, and a Sky server on this machine."""

import os
from collections.abc import Iterator

import pytest

from household import House, end_when_told, kept, settle

HOME = settle("dgx-", "DAGSTER_", DAGSTER_DISABLE_TELEMETRY="1")
end_when_told()

os.environ["DAGSTER_HOME"] = str(HOME / "dagster")
(HOME / "dagster").mkdir()
(HOME / "dagster" / "dagster.yaml").write_text(
    "telemetry: {enabled: false}\n"
    "run_coordinator: {module: dagster.core.run_coordinator, class: QueuedRunCoordinator, "
    "config: {dequeue_interval_seconds: 1}}\n"
)


@pytest.fixture(scope="session")
def house_open() -> Iterator[House]:
    with kept(House(HOME)) as house:
        yield house


@pytest.fixture
def house(house_open: House) -> Iterator[House]:
    """The household; no test leaves a cluster."""
    yield house_open
    assert house_open.clusters() == []
