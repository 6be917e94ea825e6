"""Which container a job runs in: read from its task, or from the task that its cluster was launched with.

Called by `jobs.specification`. The node pulls the image and runs the job in it; see the agent's `container.py`.
"""

import shlex
from collections.abc import Mapping, Sequence

from sky.core.model.clusters import Cluster
from sky.core.model.layers import merge
from sky.core.model.names import DOCKER_LOGIN_ENVS
from sky.core.model.offers import Offer
from sky.core.model.recorded import recorded_task
from sky.core.model.resources import Resources
from sky.core.model.tasks import TaskSpec

_PREFIX = "docker:"


def container(
    task: TaskSpec, cluster: Cluster, settings: Mapping[str, object] | None = None
) -> Mapping[str, object] | None:
    """`{image, run_options, login, mounts}` as the agent takes it, None for a job that runs on the node itself.

    A job that names no image runs in its cluster's, so that what a setup installed there is at hand. `settings` are
    the server's own under `docker`: what the launch laid over them counts before them, and the task's before both.
    """
    offer = cluster.placement.offer if cluster.placement else None
    launched = recorded_task(cluster.task_config) if cluster.task_config else task
    source, image = task, _image(task.resources, offer)
    if image is None:
        source, image = launched, _image(launched.resources, offer)
    if image is None:
        return None
    login = _login(task) or _login(source)
    # What client and task said at the launch, the task of the launch on its own where nothing else was recorded.
    over = merge(cluster.layers, {"docker": source.config.get("docker")})
    return {
        "image": _located(image, login),
        "run_options": _options(task.config) or _options(merge({"docker": settings or {}}, over)),
        "login": login,
        # Those of the launch for every job: a container is made once, with what it is to see.
        "mounts": sorted({*_mounts(launched), *_mounts(task)}),
    }


def without_login(variables: Mapping[str, object]) -> dict[str, str]:
    """Variables as texts, but for those of the registry, which are not the job's business."""
    return {key: str(value) for key, value in variables.items() if key not in DOCKER_LOGIN_ENVS}


def _image(candidates: Sequence[Resources], offer: Offer | None) -> str | None:
    """The image of the first candidate that the cluster's machines answer to."""
    fitting = [one for one in candidates if offer is None or _fits(one, offer)] or candidates[:1]
    images = (fitting[0].image_id or {}) if fitting else {}
    region = offer.region if offer else None
    image = images.get(region, images.get(None)) or (next(iter(images.values())) if len(images) == 1 else "")
    return image.removeprefix(_PREFIX) if image.startswith(_PREFIX) else None


def _fits(asked: Resources, offer: Offer) -> bool:
    places = ((asked.infra.cloud, offer.cloud), (asked.region, offer.region), (asked.zone, offer.zone))
    if any(wanted is not None and wanted != found for wanted, found in places):
        return False
    if asked.instance_type is not None and asked.instance_type != offer.instance_type:
        return False
    devices = asked.accelerator_request
    known = {name.lower() for name in offer.accelerators}
    return devices is None or devices.name.lower() in known


def _login(task: TaskSpec) -> dict[str, str] | None:
    """The login of the task's registry; it stands whole in one of the two places, or nowhere."""
    given = {**task.envs, **task.secrets}
    username, password, server = (str(given.get(name, "")) for name in DOCKER_LOGIN_ENVS)
    return {"server": server, "username": username, "password": password} if server else None


def _located(image: str, login: Mapping[str, str] | None) -> str:
    """The image's name with its registry: that of the login, unless the name begins with one."""
    first, slash, _ = image.partition("/")
    if login is None or (slash and ("." in first or ":" in first or first == "localhost")):
        return image
    return f"{login['server'].rstrip('/')}/{image}"


def _mounts(task: TaskSpec) -> list[str]:
    """Where the task's files lie outside of the home, which a container sees anyway."""
    places = [*task.file_mounts, *task.storage_mounts, *task.volumes]
    return [place for place in places if place.startswith("/") and place.strip("/") and ":" not in place]


def _options(config: Mapping[str, object]) -> list[str]:
    section = config.get("docker")
    given = section.get("run_options") if isinstance(section, Mapping) else None
    lines = [given] if isinstance(given, str) else list(given or ())
    return [word for line in lines for word in shlex.split(str(line))]
