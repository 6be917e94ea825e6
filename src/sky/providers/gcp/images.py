"""Images: what a machine boots from where nothing is said, what the interface's tags mean, and clones of a disk."""

import re
from collections.abc import Sequence
from typing import Any

from sky.core.errors import CredentialsRejected, InstanceNotFound, ProviderDown, RequestInvalid
from sky.core.model.machines import MachineSpec
from sky.core.ports import DiskImage
from sky.kit.backoff import delays
from sky.kit.clock import SystemClock
from sky.providers.gcp import names
from sky.providers.gcp.access import Account
from sky.providers.gcp.errors import AlreadyThere
from sky.providers.gcp.instances import Machine
from sky.providers.gcp.rest import Rest
from sky.providers.gcp.shapes import Shape

_UBUNTU = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-amd64"
_UBUNTU_ARM = "projects/ubuntu-os-cloud/global/images/family/ubuntu-2404-lts-arm64"
#: With NVIDIA's driver, for machines with GPUs: Google's image for deep learning, and the one for Grace.
_WITH_DRIVER = "projects/deeplearning-platform-release/global/images/family/common-cu129-ubuntu-2204-nvidia-580"
_WITH_DRIVER_ARM = (
    "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-arm64-with-nvidia-580"
)
#: Tags of the interface name a kind of image; only whether GPUs work in it is still ours to say.
_TAG = re.compile(r"skypilot:(?:custom-)?(?P<kind>cpu|gpu|k80)\b[\w.-]*")
_LINK = re.compile(
    r"(?:https://(?:www|compute)\.googleapis\.com/compute/(?:v1|beta)/)?"
    r"(?:projects/(?P<project>[a-z0-9.:-]+)/)?global/images/(?P<name>(?:family/)?[a-z][-a-z0-9.]{0,62})"
)
#: Seconds for an image that an earlier try began.
_READY_S = 3600.0
_NAME = re.compile(r"[a-z][-a-z0-9.]{0,62}")


async def image(rest: Rest, account: Account, spec: MachineSpec, made: Shape) -> tuple[str, int]:
    """The image's path as a disk takes it, and the smallest disk for it in GB. Raises RequestInvalid."""
    path = _path(spec, made, account.project)
    try:
        found = await rest.get(account, f"/{path}")
    except InstanceNotFound:
        raise RequestInvalid(
            f"image {path} does not exist; give a link (projects/PROJECT/global/images/NAME) or a family "
            "(projects/PROJECT/global/images/family/FAMILY)",
            scope="account",
        ) from None
    except CredentialsRejected:
        # Some may use an image that they may not look at; then Google says at creation if the disk is too small.
        return path, 0
    return path, _size(found.get("diskSizeGb"))


async def clone(rest: Rest, account: Account, installation: str, head: Machine, key: str) -> str:
    """The image of a machine's boot disk for this ask, ready to be started from; the same for the same ask."""
    name = names.image(installation, head.cluster_id, key)
    path = f"projects/{account.project}/global/images/{name}"
    told = {names.INSTALLATION: installation, names.CLUSTER: head.cluster_id, names.IMAGE_KEY: key}
    body = {"name": name, "sourceDisk": head.boot_disk, "labels": names.labels(told)}
    force = {"forceCreate": "true"} if head.alive else {}
    try:
        await rest.done(account, "global/images", body, **force)
    except AlreadyThere:
        await _ready(rest, account, path)
    return path


async def clones(rest: Rest, account: Account, installation: str) -> Sequence[DiskImage]:
    """All such images of an installation."""
    ours = names.label_value(installation)
    found = []
    async for page in rest.pages(account, "global/images", filter=f'labels.{names.INSTALLATION}="{ours}"'):
        for each in page.get("items") or ():
            told = each.get("labels") or {}
            if told.get(names.INSTALLATION) == ours and names.IMAGE_KEY in told:
                path = f"projects/{account.project}/global/images/{each.get('name')}"
                found.append(DiskImage(path, str(told[names.IMAGE_KEY])))
    return found


async def _ready(rest: Rest, account: Account, path: str) -> None:
    clock = SystemClock()
    until = clock.now() + _READY_S
    for delay in delays(0.5, 1.5, 15.0):
        state = (await rest.get(account, f"/{path}")).get("status", "READY")
        if state == "READY":
            return
        if state != "PENDING" or clock.now() > until:
            raise ProviderDown(f"image {path} does not become ready: it is {str(state)[:40].lower()}")
        await clock.sleep(delay)


def _path(spec: MachineSpec, made: Shape, project: str) -> str:
    wanted = (spec.clone_of or spec.image or "").strip()
    arm = made.arch == "arm64"
    kind = _TAG.fullmatch(wanted)
    if kind is not None or not wanted:
        driver = made.gpu is not None if kind is None else kind["kind"] != "cpu"
        if driver:
            return _WITH_DRIVER_ARM if arm else _WITH_DRIVER
        return _UBUNTU_ARM if arm else _UBUNTU
    if link := _LINK.fullmatch(wanted):
        return f"projects/{link['project'] or project}/global/images/{link['name']}"
    if _NAME.fullmatch(wanted):
        return f"projects/{project}/global/images/{wanted}"
    raise RequestInvalid(
        f"image {wanted[:120]!r} is no image of Google Cloud; allowed: projects/PROJECT/global/images/NAME, "
        "projects/PROJECT/global/images/family/FAMILY, or the name of an image in your project",
        scope="account",
    )


def _size(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        return 0
