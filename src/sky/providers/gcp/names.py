"""Names and labels of what is made in Google Cloud: how this installation and a cluster are told from others.

A name is made of what does not change, so that making it twice is noticed by Google itself.
"""

import hashlib
import re
from collections.abc import Mapping

#: Labels of every machine, beside the user's.
INSTALLATION = "sky-installation"
CLUSTER = "sky-cluster-id"
RANK = "sky-rank"
KEY = "sky-key"
#: On an image of a disk: the ask that it is for.
IMAGE_KEY = "sky-image-key"
#: Keys of metadata: the cluster's id letter by letter, which a label may not hold.
METADATA_CLUSTER = "sky-cluster-id"

_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_NOT_IN_LABEL = re.compile(r"[^a-z0-9_-]+")
_ABOUT = re.compile(rf"{INSTALLATION}=(\S{{1,63}}) {CLUSTER}=(\S{{1,100}})")
_RANKED = re.compile(r"-(\d{1,5})")


def mark(installation: str, cluster_id: str) -> str:
    """What everything that is made for one cluster alone is called by: 16 letters, valid anywhere in Google Cloud."""
    return f"sky-{_short(f'{installation}/{cluster_id}', 12)}"


def about(installation: str, cluster_id: str) -> str:
    """The description of what is made for one cluster and takes no labels: a mark, which is a hash, cannot be read."""
    return f"{INSTALLATION}={label_value(installation)} {CLUSTER}={cluster_id}"


def cluster_of(installation: str, description: object) -> str:
    """The cluster that a description tells of; empty where it is not one of this installation's."""
    found = _ABOUT.fullmatch(description) if isinstance(description, str) else None
    return found[2] if found and found[1] == label_value(installation) else ""


def installation_tag(installation: str) -> str:
    """The network tag of all machines of an installation."""
    return f"sky-all-{_short(installation, 8)}"


def shared_rule(installation_tag: str, network: str, kind: str) -> str:
    """The firewall rule of an installation in one network, given as its path."""
    return f"{installation_tag}-{_short(network, 8)}-{kind}"


def machine(made_mark: str, rank: int) -> str:
    """A node's machine."""
    return f"{made_mark}-{rank}"


def image(installation: str, cluster_id: str, key: str) -> str:
    """The image of a cluster's disk for one ask."""
    return f"{mark(installation, cluster_id)}-{_short(key, 12)}"


def rank_of(name: str) -> int | None:
    """The rank that a machine's name ends with, for those whose labels come from a template."""
    found = _RANKED.search(name, name.rfind("-"))
    return int(found[1]) if found and found.end() == len(name) else None


def key_label(key: str) -> str:
    """A mark of the ask that made a machine."""
    return _short(key, 16)


def label_value(text: str) -> str:
    """A text as a label: as it is where that is allowed, else made to fit without two becoming the same."""
    if _LABEL_VALUE.fullmatch(text):
        return text
    return f"{_NOT_IN_LABEL.sub('-', text.lower())[:50]}-{_short(text, 10)}"


def labels(own: Mapping[str, str], *others: Mapping[str, str]) -> dict[str, str]:
    """All labels of a machine: ours win, and of the others, which are the user's, the last."""
    made: dict[str, str] = {}
    for each in others:
        made.update(each)
    return made | {key: label_value(value) for key, value in own.items()}


def _short(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
