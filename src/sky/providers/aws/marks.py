"""The tags by which machines and what belongs to them are known again, and what is read back from them.

Ranks are told by one tag for all machines of a launch, and each machine's place in it: one call makes a whole gang,
and no second one is needed (and could be missed) to say which is which.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

INSTALLATION, CLUSTER, RANKS, KEY, LOGIN = "sky-installation", "sky-cluster-id", "sky-ranks", "sky-key", "sky-login"
#: On a security group: a placement group of the same name was made, too.
GROUPED = "sky-placement-group"

Tags = list[dict[str, str]]

#: Bounds of EC2.
_MOST_TAGS, _KEY_LONG, _VALUE_LONG = 50, 128, 256
#: More ranks are not believed; a range must not be a way to fill memory.
_MOST_RANKS = 10_000


def own(installation: str, cluster_id: str) -> dict[str, str]:
    """What everything made for a cluster carries."""
    return {INSTALLATION: installation, CLUSTER: cluster_id}


def tags(*layers: Mapping[str, str]) -> Tags:
    """EC2's form of tags; later layers win, and keep their place where there are too many."""
    merged: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.items():
            merged.pop(key, None)
            merged[key[:_KEY_LONG]] = value[:_VALUE_LONG]
    kept = [(key, value) for key, value in merged.items() if not key.lower().startswith("aws:")]
    return [{"Key": key, "Value": value} for key, value in kept[-_MOST_TAGS:]]


def on(kinds: Iterable[str], made: Tags) -> list[dict[str, object]]:
    """The same tags for several kinds of things that one call makes."""
    return [{"ResourceType": kind, "Tags": made} for kind in kinds]


def read(found: object) -> dict[str, str]:
    """Tags as EC2 gives them back."""
    entries = found if isinstance(found, list) else []
    return {str(each.get("Key")): str(each.get("Value")) for each in entries if isinstance(each, dict)}


def of_cluster(installation: str, cluster_id: str | None) -> list[dict[str, object]]:
    """Filters that find what this installation made, for one cluster or for all."""
    found: list[dict[str, object]] = [{"Name": f"tag:{INSTALLATION}", "Values": [installation]}]
    if cluster_id is not None:
        found.append({"Name": f"tag:{CLUSTER}", "Values": [cluster_id]})
    return found


def digest(*parts: object) -> str:
    """A short name of what may be long: the token of a launch, the mark of a key."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:48]


def ranks_text(ranks: Sequence[int]) -> str:
    """Ranks in one tag: `0-3 7`. Launches of ranks that no tag can hold do not occur before thousands of gaps."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][1] + 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return " ".join(str(low) if low == high else f"{low}-{high}" for low, high in runs)


def rank_at(text: str, place: int) -> int | None:
    """The rank of a launch's machine number `place`; None where the tag does not tell."""
    at = 0
    for run in text.split():
        low, _, high = run.partition("-")
        if not low.isdecimal() or not (high or low).isdecimal():
            return None
        count = int(high or low) - int(low) + 1
        if not 0 < count <= _MOST_RANKS:
            return None
        if place < at + count:
            return int(low) + place - at
        at += count
    return None
