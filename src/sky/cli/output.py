"""Results for machines: `-o json|jsonl|yaml` of any command. The shapes are promised in this room's README."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import Enum

FORMATS = ("table", "json", "jsonl", "yaml")


def plain(value: object) -> object:
    """Return a value made of dicts, lists, texts, numbers, booleans and None; enums become their words."""
    if value is None or isinstance(value, bool | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, str):
        return str(value.value) if isinstance(value, Enum) else str(value)
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return plain(value.value) if isinstance(value, Enum) else str(value)


def emit(data: Mapping[str, object] | Sequence[object], form: str) -> None:
    """Write data to stdout in a machine's form; `jsonl` is one line per item, or one line for a mapping."""
    ready = plain(data)
    if form == "yaml":
        import yaml  # noqa: PLC0415 - 20 ms that JSON does not need

        yaml.safe_dump(ready, sys.stdout, sort_keys=False, allow_unicode=True, default_flow_style=False)
        return
    if form == "jsonl":
        for item in ready if isinstance(ready, list) else [ready]:
            sys.stdout.write(json.dumps(item, ensure_ascii=False) + "\n")
        return
    sys.stdout.write(json.dumps(ready, indent=2, ensure_ascii=False) + "\n")
