"""The OpenAPI document, made from the routes and the message types. Called by the server for `/openapi.json`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sky.core.policy.rights import Right
from sky.version import __version__
from sky.wire import codec
from sky.wire.protocol import MEDIA_BYTES, MEDIA_FRAMES, MEDIA_JSON
from sky.wire.requests import ErrorAnswer


@dataclass(frozen=True, slots=True)
class Operation:
    """One route: what it takes and gives. `body` and `answer` are message types; `media` is what it answers in.

    `right` is what a caller needs; without one the call is refused to everybody. `audited` says whether calls are
    written into the audit log (None: those that can change something). `enveloped` answers come with the id of the
    read, under `result`.
    """

    method: str
    path: str
    summary: str
    body: Any = None
    answer: Any = None
    media: str = MEDIA_JSON
    query: tuple[tuple[str, str], ...] = ()
    raw_body: bool = False
    right: Right | None = None
    audited: bool | None = None
    enveloped: bool = False

    @property
    def public(self) -> bool:
        """Whether anybody may call it."""
        return self.right is Right.PUBLIC

    @property
    def on_record(self) -> bool:
        """Whether calls of it are written into the audit log."""
        return self.right not in (Right.PUBLIC, Right.READ) if self.audited is None else self.audited


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """An OpenAPI 3.1 document of these operations."""
    operations = list(operations)
    kinds = [kind for operation in operations for kind in (operation.body, operation.answer) if kind is not None]
    found, components = codec.schemas([*kinds, ErrorAnswer])
    by_kind = dict(zip([repr(kind) for kind in kinds], found, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, by_kind, found[-1])
    return {
        "openapi": "3.1.0",
        "info": {"title": "Altostratus", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation, by_kind: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
    schema = by_kind.get(repr(operation.answer), {})
    if operation.enveloped:
        members = {"request_id": {"type": "string"}, "result": schema}
        schema = {"type": "object", "properties": members, "required": ["request_id", "result"]}
    told: dict[str, Any] = {
        "operationId": f"{operation.method.lower()}{operation.path}".translate(str.maketrans("/{}.", "____")),
        "summary": operation.summary,
        "responses": {
            "200": {"description": "Success", "content": {operation.media: {"schema": schema}}},
            "default": {"description": "An error", "content": {MEDIA_JSON: {"schema": error}}},
        },
    }
    if operation.body is not None:
        body = {MEDIA_JSON: {"schema": by_kind[repr(operation.body)]}}
        told["requestBody"] = {"required": True, "content": body}
    elif operation.raw_body:
        told["requestBody"] = {"required": True, "content": {MEDIA_BYTES: {"schema": {"type": "string"}}}}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": kind}, "required": False} for name, kind in operation.query
    ]
    parameters += [
        {"name": part[1:-1], "in": "path", "schema": {"type": "string"}, "required": True}
        for part in operation.path.split("/")
        if part.startswith("{")
    ]
    if parameters:
        told["parameters"] = parameters
    if operation.public:
        told["security"] = []
    return told


__all__ = ["MEDIA_FRAMES", "Operation", "document"]
