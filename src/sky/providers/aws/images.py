"""The image that a machine starts from: the user's own, or the newest that fits, found by name in its region.

Public images have another id in each region and are replaced every few weeks, so no id is kept in code: Amazon's
parameter store names the newest, and where it has none, the owner's images are listed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sky.core.errors import ProviderFailure, RequestInvalid
from sky.core.model.machines import MachineSpec
from sky.core.model.offers import Offer
from sky.providers.aws.clients import Answer, Clients

_CANONICAL, _AMAZON = "099720109477", "amazon"
_TAG = re.compile(r"skypilot:(?P<kind>[a-z0-9-]+?)-ubuntu(?:-(?P<year>\d\d)\.?(?P<month>\d\d))?(?:-arm64)?")
#: Versions of Ubuntu that are tried, newest first.
_RELEASES = ("24.04", "22.04")
#: Families whose devices newer drivers have left behind.
_OLD_GPUS = ("p2", "p3", "p3dn", "g3", "g3s")
_NO_NVIDIA = ("g4ad", "dl1", "dl2q", "vt1", "f1", "f2")
#: Seconds for which the newest image stays the newest.
_FRESH_S = 6 * 3600.0


@dataclass(frozen=True, slots=True)
class Image:
    """`root` is the name of its disk, `size_gb` what that must hold at least."""

    id: str
    root: str
    size_gb: int
    arch: str


@dataclass(frozen=True, slots=True)
class _Kind:
    """Where the newest image of a kind is told: names in the parameter store, then owners and patterns of names."""

    parameters: tuple[str, ...]
    patterns: tuple[tuple[str, str], ...]


class Images:
    """Finds images; what was found is kept for some hours."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._found: dict[tuple[str, str], tuple[float, Image]] = {}

    async def find(self, offer: Offer, machine: MachineSpec) -> Image:
        """The image for a machine of this offer. Raises RequestInvalid where there is none, or it does not fit."""
        arch = _arch(offer)
        named = machine.clone_of or machine.image
        if named is None or named.startswith("skypilot:"):
            found = await self._newest(offer.region, named or _usual(offer), arch)
        else:
            found = await self._named(offer.region, named)
        if found.arch and found.arch != arch:
            raise RequestInvalid(
                f"image {found.id} is for {found.arch}, and {offer.instance_type} is {arch}; name an image for {arch}",
                scope="instance_type",
            )
        return found

    async def exactly(self, region: str, id: str) -> Image:
        """The image of this id. Raises RequestInvalid where it is gone."""
        return await self._named(region, id)

    async def _named(self, region: str, id: str) -> Image:
        if not re.fullmatch(r"ami-[0-9a-z]{4,40}", id):
            raise RequestInvalid(
                f"image_id: found '{id[:80]}'; allowed on aws: an image id (ami-…) or a tag (skypilot:gpu-ubuntu-2204)"
            )
        answer = await self._clients.ec2(region, "DescribeImages", ImageIds=[id])
        for raw in answer.get("Images") or ():
            return _image(raw)
        raise RequestInvalid(f"there is no image {id} in {region} that this account may use", scope="region")

    async def _newest(self, region: str, tag: str, arch: str) -> Image:
        key = (region, f"{tag} {arch}")
        now = self._clients.clock.now()
        if key in self._found and self._found[key][0] > now - _FRESH_S:
            return self._found[key][1]
        kind = _kind(tag, arch)
        found = await self._by_parameter(region, kind) or await self._by_name(region, kind, arch)
        if found is None:
            looked = ", ".join(pattern for _, pattern in kind.patterns)
            raise RequestInvalid(f"{region} has no image like {looked}; name one with image_id", scope="region")
        self._found[key] = (now, found)
        return found

    async def _by_parameter(self, region: str, kind: _Kind) -> Image | None:
        for name in kind.parameters:
            try:
                answer = await self._clients.call("ssm", region, "GetParameter", {"Name": name})
                return await self._named(region, str(answer.get("Parameter", {}).get("Value", "")))
            except ProviderFailure:
                continue  # not in every region, not allowed to every user; names are told by EC2 itself, too
        return None

    async def _by_name(self, region: str, kind: _Kind, arch: str) -> Image | None:
        for owner, pattern in kind.patterns:
            filters = [
                {"Name": "name", "Values": [pattern]},
                {"Name": "architecture", "Values": [arch]},
                {"Name": "state", "Values": ["available"]},
                {"Name": "root-device-type", "Values": ["ebs"]},
            ]
            answer = await self._clients.ec2(region, "DescribeImages", Owners=[owner], Filters=filters)
            images = list(answer.get("Images") or ())
            if images:
                return _image(max(images, key=lambda raw: (str(raw.get("CreationDate")), str(raw.get("Name")))))
        return None


def family(instance_type: str) -> str:
    """`p5` of `p5.48xlarge`."""
    return instance_type.partition(".")[0]


def _arch(offer: Offer) -> str:
    return "arm64" if offer.arch in ("arm64", "aarch64") else "x86_64"


def _usual(offer: Offer) -> str:
    name = family(offer.instance_type)
    if name.startswith(("trn", "inf")):
        return "skypilot:neuron-ubuntu"
    if not offer.accelerators or name in _NO_NVIDIA:
        return "skypilot:cpu-ubuntu"
    return "skypilot:old-gpu-ubuntu" if name in _OLD_GPUS else "skypilot:gpu-ubuntu"


def _kind(tag: str, arch: str) -> _Kind:
    """Where images of a tag are told. Raises RequestInvalid for a tag that means nothing."""
    match = _TAG.fullmatch(tag)
    if match is None:
        raise RequestInvalid(f"image_id: found '{tag[:80]}'; allowed: tags such as skypilot:gpu-ubuntu-2204")
    releases = (f"{match['year']}.{match['month']}",) if match["year"] else _RELEASES
    kind = match["kind"].removeprefix("custom-")
    if kind == "cpu":
        return _plain(releases, arch)
    if kind == "neuron":
        return _Kind(
            tuple(f"/aws/service/neuron/dlami/multi-framework/ubuntu-{each}/latest/image_id" for each in releases),
            tuple((_AMAZON, f"Deep Learning AMI Neuron*(Ubuntu {each})*") for each in releases),
        )
    if kind in ("old-gpu", "k80"):
        return _Kind(
            (),
            (
                *((_AMAZON, f"Deep Learning Base Proprietary Nvidia Driver*(Ubuntu {each})*") for each in releases),
                (_AMAZON, "Deep Learning Base*AMI (Ubuntu 20.04)*"),
                (_AMAZON, "Deep Learning AMI Ubuntu*"),
            ),
        )
    if kind != "gpu":
        raise RequestInvalid(f"image_id: found '{tag[:80]}'; allowed: cpu, gpu, neuron or k80 before -ubuntu")
    store = f"/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-ubuntu-"
    return _Kind(
        tuple(f"{store}{each}/latest/ami-id" for each in releases),
        (
            *((_AMAZON, f"Deep Learning*Base*Nvidia Driver*(Ubuntu {each})*") for each in releases),
            *(((_AMAZON, "Deep Learning AMI Ubuntu*"),) if not match["year"] else ()),
        ),
    )


def _plain(releases: tuple[str, ...], arch: str) -> _Kind:
    short = {"x86_64": "amd64"}.get(arch, arch)
    store = "/aws/service/canonical/ubuntu/server/{}/stable/current/{}/hvm/ebs-gp{}/ami-id"
    return _Kind(
        tuple(store.format(each, short, 3 if each >= "24" else 2) for each in releases),
        (
            *((_CANONICAL, f"ubuntu/images/hvm-ssd*/ubuntu-*-{each}-{short}-server-*") for each in releases),
            # Isolated regions get newer releases late.
            (_CANONICAL, f"ubuntu/images/hvm-ssd*/ubuntu-*-{short}-server-*"),
        ),
    )


def _image(raw: Answer) -> Image:
    root = str(raw.get("RootDeviceName") or "/dev/sda1")
    sizes = [_size(each) for each in raw.get("BlockDeviceMappings") or () if each.get("DeviceName") == root]
    return Image(str(raw.get("ImageId", "")), root, max(sizes, default=0), str(raw.get("Architecture") or ""))


def _size(mapping: Mapping[str, Mapping[str, object]]) -> int:
    size = mapping.get("Ebs", {}).get("VolumeSize")
    return size if isinstance(size, int) else 0
