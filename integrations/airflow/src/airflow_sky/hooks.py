"""The hook and the connection type `sky`: which server, and who asks. Called by operators, sensors and triggers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

if TYPE_CHECKING:
    from airflow.sdk import Connection

#: The connection that is used where none is named. It need not exist.
DEFAULT_CONN_ID = "sky_default"


@dataclass(frozen=True, slots=True)
class Server:
    """Where to send calls; without an endpoint, wherever the SDK does by itself."""

    # Neither is shown: with a password, the address holds it.
    endpoint: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Send the SDK's calls inside this block, in this thread or coroutine, to this server."""
        if self.endpoint is None:
            yield
            return
        import sky  # noqa: PLC0415 - DAG files are read where `sky` is never called

        with sky.using_endpoint(self.endpoint, self.token):
            yield


class SkyHook(BaseHook):
    """The SDK's calls, sent to the server of a connection.

    sky_conn_id: a connection of type `sky`. Its host is the server's address (`https://sky.example.org`, a bare host
    with or without port, or `unix:///path`), its password a service account's token; with a login, both are a user's
    name and password. The connection `sky_default` need not exist: then the SDK decides by itself.
    """

    conn_name_attr = "sky_conn_id"
    default_conn_name = DEFAULT_CONN_ID
    conn_type = "sky"
    hook_name = "Sky"

    def __init__(self, sky_conn_id: str = DEFAULT_CONN_ID, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.sky_conn_id = sky_conn_id
        self._server: Server | None = None

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """What the form of a connection shows."""
        return {
            "hidden_fields": ["schema", "extra"],
            "relabeling": {"host": "API server", "login": "User (not for tokens)", "password": "Token or password"},
            "placeholders": {"host": "https://sky.example.org", "port": "46580"},
        }

    def server(self) -> Server:
        """The server of the connection. Raises AirflowNotFoundException, ValueError for an address that is none."""
        if self._server is None:
            try:
                self._server = server_of(self.get_connection(self.sky_conn_id))
            except AirflowNotFoundException:
                if self.sky_conn_id != DEFAULT_CONN_ID:
                    raise
                self._server = Server()
        return self._server

    async def aserver(self) -> Server:
        """The same for triggers, which share one event loop."""
        if self._server is None:
            try:
                self._server = server_of(await self.aget_connection(self.sky_conn_id))
            except AirflowNotFoundException:
                if self.sky_conn_id != DEFAULT_CONN_ID:
                    raise
                self._server = Server()
        return self._server

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Send the SDK's calls inside this block to the connection's server: `with hook.serving(): sky.status()`."""
        with self.server().serving():
            yield

    def get_conn(self) -> SkyClient:
        """The SDK's functions, each sent to the connection's server: `hook.get_conn().status()`."""
        return SkyClient(self.server())

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers, and in which version."""
        import sky  # noqa: PLC0415 - the form of a connection is shown where `sky` is never called

        try:
            with self.serving():
                told = sky.api_info()
        except Exception as failed:  # noqa: BLE001 - whatever it is, the form shows it
            return False, str(failed) or type(failed).__name__
        return True, f"{told['endpoint']}: version {told['version']}, {told['status'].value}"


def server_of(connection: Connection) -> Server:
    """A connection's address and token. Raises ValueError for an address that holds a name or token."""
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        return Server()
    if "@" in host:
        raise ValueError(
            f"The host of connection '{connection.conn_id}' holds a name or a token; write these into its login and "
            "password, which Airflow hides."
        )
    scheme, found, address = host.partition("://")
    if not found:
        scheme, address = (connection.schema or "http").strip().lower(), host
    if connection.port and scheme != "unix":
        address = f"{address}:{connection.port}"
    if connection.login:
        # A user of a server with passwords; the SDK takes both as part of the address.
        who = f"{quote(connection.login, safe='')}:{quote(connection.password or '', safe='')}"
        return Server(f"{scheme}://{who}@{address}")
    return Server(f"{scheme}://{address}", connection.password or None)


class SkyClient:
    """`sky.<function>` and `sky.jobs.<function>`, called on one server. May be used from many threads."""

    def __init__(self, server: Server, room: str = "") -> None:
        self._server = server
        self._room = room

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        import sky  # noqa: PLC0415 - hooks are made where `sky` is never called

        if name == "jobs" and not self._room:
            return SkyClient(self._server, "jobs")
        found = getattr(getattr(sky, self._room) if self._room else sky, name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._server.serving():
                return found(*args, **kwargs)

        return call
