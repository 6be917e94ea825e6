"""The alternatives of one ``resources`` mapping: ``any_of``, ``ordered``, and several accelerators.

Called by ``Resources.from_yaml_config`` and by the parser of tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sky.core.model.accelerators import parse_accelerators
from sky.core.model.fields import RESOURCES
from sky.core.model.requirements import ANY_OF, ORDERED, canonical_config
from sky.core.model.schema import Path, Problems, check_section

#: More alternatives than this in one task are a mistake; each is priced in every zone of every cloud.
MAX_CANDIDATES = 1000

_PLACE = ("infra", "cloud", "region", "zone")
_ACCELERATORS = ("accelerators", "gpus")

#: What must be the same on all alternatives, since it is said of the job and not of a machine.
_SHARED = ("priority", "priority_class", "job_recovery")


def read(config: Mapping[str, Any], problems: Problems, path: Path) -> tuple[list[dict[str, Any]], str]:
    """Return the canonical mappings of all alternatives, without repeats, and whether their order counts.

    path: where ``config`` stands in its document. The second value is ``ANY_OF`` or ``ORDERED``.
    """
    check_section(config, RESOURCES, path, problems)
    base = {key: value for key, value in config.items() if key not in (ANY_OF, ORDERED) and value is not None}
    # Programs that gather alternatives hand an empty list on where they found none.
    lists = [key for key in (ANY_OF, ORDERED) if config.get(key) not in (None, [], ())]
    if len(lists) > 1:
        problems.add((*path, ORDERED), "found both 'any_of' and 'ordered'; allowed: one of them")
        return [], ANY_OF
    if not lists:
        order = ORDERED if isinstance(_accelerators_of(base), list | tuple) else ANY_OF
        found = _expand(base, {}, path, path, problems)
        return _without_repeats(found), order if len(found) > 1 else ANY_OF
    order = lists[0]
    if not isinstance(config[order], list | tuple):
        return [], order
    found = []
    for index, own in enumerate(config[order]):
        if not isinstance(own, Mapping):
            continue
        alternatives = _expand(base, own, path, (*path, order, index), problems)
        if order == ORDERED and len(alternatives) > 1:
            problems.add(
                (*path, order, index), "found several accelerators in one candidate of 'ordered'; allowed: one"
            )
        found += alternatives
        if len(found) > MAX_CANDIDATES:
            problems.add((*path, order), f"found more than {MAX_CANDIDATES} candidates")
            return [], order
    _check_shared(found, (*path, order), problems)
    return _without_repeats(found), order


def _accelerators_of(config: Mapping[str, Any]) -> Any:
    return next((config[key] for key in _ACCELERATORS if config.get(key) is not None), None)


def _expand(
    base: Mapping[str, Any], own: Mapping[str, Any], base_path: Path, own_path: Path, problems: Problems
) -> list[dict[str, Any]]:
    """Merge one candidate over the base and return one canonical mapping for each of its accelerators."""
    own = {key: value for key, value in own.items() if value is not None}
    merged = dict(base)
    for group in (_PLACE, _ACCELERATORS):
        if any(key in own for key in group) and not (group == _PLACE and "infra" not in own and "infra" not in base):
            merged = {key: value for key, value in merged.items() if key not in group}
    merged.update(own)
    if isinstance(own.get("labels"), Mapping) and isinstance(base.get("labels"), Mapping):
        merged["labels"] = {**base["labels"], **own["labels"]}

    def where(key: str) -> Path:
        return (*(own_path if key in own or key not in base else base_path), key)

    requests: tuple[Any, ...] = ()
    word = next((key for key in _ACCELERATORS if key in merged), "accelerators")
    if len([key for key in _ACCELERATORS if key in merged]) == 1:
        with problems.catch(*where(word)):
            requests = parse_accelerators(merged[word])
            if len(requests) > MAX_CANDIDATES:
                raise ValueError(f"found more than {MAX_CANDIDATES} accelerators")
    if problems.spoils(*where(word)):
        return []
    if len(requests) <= 1:
        return [canonical_config(merged, problems, where)]
    rest = {key: value for key, value in merged.items() if key not in _ACCELERATORS}
    return [
        canonical_config({**rest, "accelerators": {request.name: request.count}}, problems, where)
        for request in requests
    ]


def _check_shared(found: list[dict[str, Any]], path: Path, problems: Problems) -> None:
    for key in _SHARED:
        if found and any(one.get(key) != found[0].get(key) for one in found):
            problems.add(path, f"found different values of '{key}'; allowed: the same on all candidates")


def _without_repeats(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept: list[dict[str, Any]] = []
    seen: set[str] = set()
    for one in found:
        key = repr(sorted(one.items()))
        if key not in seen:
            seen.add(key)
            kept.append(one)
    return kept
