"""The workspaces that there are: those of the configuration file, those made by calls, and `default`.

Read by handlers of launches, which keep to a workspace's infra, and by the server for every call.
"""

from collections.abc import Callable, Mapping

from sky.core.model.workspaces import DEFAULT, Workspace, read_workspace
from sky.core.ports import Users


class Workspaces:
    """See the module. `section` gives a section of the configuration as it is now."""

    def __init__(self, users: Users, section: Callable[[str], Mapping[str, object]]) -> None:
        self._users = users
        self._section = section

    def configured(self) -> Mapping[str, Mapping[str, object]]:
        """Those of the configuration file, as they stand there; calls do not change them."""
        said = self._section("workspaces")
        return {name: told if isinstance(told, Mapping) else {} for name, told in said.items()}

    async def all(self) -> Mapping[str, Workspace]:
        """All workspaces by name. Where file and calls name the same one, the file says how it is.

        Raises InvalidSkyPilotConfigError, InvalidWorkspaceNameError for a file that is not valid.
        """
        told = {DEFAULT: {}, **await self._users.workspaces(), **self.configured()}
        common = self._section("workspace_config").get("read_access")
        if common is not None:
            told = {name: {"read_access": common, **config} for name, config in told.items()}
        return {name: read_workspace(name, config) for name, config in sorted(told.items())}

    async def get(self, name: str) -> Workspace:
        """One by name. What is in a workspace that is gone is seen by admins only."""
        return (await self.all()).get(name) or Workspace(name, private=True)
