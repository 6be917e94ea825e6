"""A sky server of its own for each test process, on `infra: local`; at the end nothing of it may be left: counted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte_running import Pyflyte
from household import House, end_when_told, kept, settle

HOME = settle("flyte-home-", "FLYTE_", _FSEC_VAULT_TOKEN="token-of-the-vault")
end_when_told()

#: Clusters that tests share by naming the same one: they stay to the end.
SHARED = {"kinds", "foo", "wire"}


class Shared(House):
    """The household; of the clusters at its end only those count that nobody shares."""

    def close(self) -> list[str]:
        return [each for each in super().close() if each not in SHARED]


@pytest.fixture(scope="session")
def home() -> Iterator[Path]:
    """The fresh home in whose server all tests of this process work."""
    with kept(Shared(HOME)):
        yield HOME


@pytest.fixture
def pyflyte(home: Path) -> Pyflyte:
    """`pyflyte run` in the folder of workflows, as a person types it."""
    return Pyflyte(home)
