"""Which data a task brings along: its `inputs` and `outputs`, the buckets that it mounts, its image. The engine asks.

A task says sizes of inputs and outputs only, and never a region; what else is known of buckets and images stands in
the user's configuration, under `data.buckets`.
"""

from collections.abc import Iterator, Mapping

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.infra import Infra
from sky.core.model.quantities import parse_volume_gb
from sky.core.model.storage import cloud_of_address
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.gravity import Holding


def holdings(task: TaskSpec, known: Mapping[str, object]) -> tuple[Holding, ...]:
    """The data of a task that has a place and a size.

    `known`: address of a bucket (or of a folder in it, or `docker:IMAGE`) to `{infra: cloud/region, size: 1.2TB}`, or
    `{region: …, size: …}` where the address tells the cloud. Raises InvalidSkyPilotConfigError for others.
    """
    entries = {address: _entry(address, said) for address, said in known.items()}
    found: list[Holding] = []
    for address, gigabytes in task.inputs.items():
        found += _held(address, gigabytes, entries, outgoing=False)
    for address, gigabytes in task.outputs.items():
        found += _held(address, gigabytes, entries, outgoing=True)
    for address in dict.fromkeys(_sources(task)):
        if address not in task.inputs:
            found += _held(address, None, entries, outgoing=False)
    return tuple(found)


def _sources(task: TaskSpec) -> Iterator[str]:
    yield from task.file_mounts.values()
    for spec in task.storage_mounts.values():
        if isinstance(spec.source, str):
            yield spec.source
    for resources in task.resources:
        yield from (resources.image_id or {}).values()


def _held(
    address: str, gigabytes: float | None, entries: Mapping[str, tuple[Infra, float | None]], *, outgoing: bool
) -> list[Holding]:
    names = [name for name in entries if address == name or address.startswith(name.rstrip("/") + "/")]
    place, size = entries[max(names, key=len)] if names else (Infra(cloud_of_address(address)), None)
    # A folder of a bucket is not as large as the bucket; but nothing better is known of it.
    amount = gigabytes if gigabytes is not None else size
    if place.cloud is None or not amount:
        return []
    return [Holding(place.cloud, place.region, amount, address, outgoing)]


def _entry(address: str, said: object) -> tuple[Infra, float | None]:
    where = f"data.buckets.{address}"
    if not isinstance(said, Mapping):
        raise InvalidSkyPilotConfigError(f"{where}: found {said!r}; allowed: a map such as {{region: …, size: 1.2TB}}")
    try:
        infra = Infra.parse(str(said["infra"])) if "infra" in said else Infra(cloud_of_address(address))
        if "region" in said:
            infra = Infra(infra.cloud, str(said["region"]))
        size = said.get("size")
        return infra, None if size is None else parse_volume_gb(size)
    except ValueError as error:
        raise InvalidSkyPilotConfigError(f"{where}: {error}") from None
