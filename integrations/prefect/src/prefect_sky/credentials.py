"""The block that holds where an API server is and the token for it, kept by Prefect and never in a flow's code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from prefect_sky.endpoints import serving


class SkyCredentials(Block):
    """Where a Sky API server is, and who is asking.

    ```python
    SkyCredentials(api_server_endpoint="https://sky.example.org", token="…").save("production")
    run_sky_task(base_path=".", yaml_path="train.yaml", credentials=SkyCredentials.load("production"))
    ```
    """

    _block_type_name = "Sky Credentials"
    _block_type_slug = "sky-credentials"
    _description = "Where a Sky API server is, and the token for it."

    api_server_endpoint: str | None = Field(
        default=None,
        title="API server",
        description="http://HOST:PORT, https://HOST or unix:///PATH; empty: as the environment says.",
    )
    token: SecretStr | None = Field(
        default=None, description="A service account's token, or `user:password` of a server with passwords."
    )

    def token_text(self) -> str | None:
        """The token in clear, for the SDK alone."""
        return self.token.get_secret_value() if self.token is not None else None

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Send the SDK's calls inside this block, in this thread, to that server."""
        with serving(None, self):
            yield

    def get_client(self) -> SkyClient:
        """The SDK's functions, each bound to that server: `get_client().status()`."""
        return SkyClient(self)


class SkyClient:
    """`sky.<function>` and `sky.jobs.<function>`, called on the server of a block. Safe to use from many threads."""

    def __init__(self, credentials: SkyCredentials, inside: str = "") -> None:
        self._credentials = credentials
        self._inside = inside

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        import sky  # noqa: PLC0415 - blocks are loaded where `sky` is never called

        if name == "jobs" and not self._inside:
            return SkyClient(self._credentials, "jobs")
        found = getattr(getattr(sky, self._inside) if self._inside else sky, name)
        if not callable(found) or isinstance(found, type):
            return found

        def call(*args: Any, **kwargs: Any) -> Any:
            with self._credentials.serving():
                return found(*args, **kwargs)

        return call
