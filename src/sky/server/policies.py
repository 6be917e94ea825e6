"""Asks the administrator's policy before a request is put on record. Called by `server.api` and the routes of plans.

A class is asked in a process of its own, which is started for the first question and kept; a web service from a
thread. Whatever goes wrong is a refusal: a policy that cannot be asked must not be a policy that is not there.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from sky.core.errors import RestfulPolicyError, from_wire
from sky.core.model.layers import merge
from sky.core.model.users import Caller
from sky.wire.clusters import user_hash
from sky.wire.policies import ANSWER_S, MOST, Allowed, Asked, ask_service, is_service

#: What a policy is not shown, and cannot set, of the server's configuration.
_HIDDEN = frozenset(["api_server", "db", "admin_policy", "plugins"])
#: Names of requests by the calls that make them.
NAMES = {
    "launch": "cluster.launch",
    "exec": "cluster.exec",
    "jobs/launch": "jobs.launch",
    "jobs/pool_apply": "jobs.pool_apply",
    "optimize": "optimize",
    "validate": "validate",
}


class Policies:
    """The policy that the server's configuration names, if it names one. `whole` gives all of that configuration."""

    def __init__(self, whole: Callable[[], Mapping[str, object]]) -> None:
        self._whole = whole
        self._worker: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def judge(
        self,
        name: str,
        task: Mapping[str, Any],
        layers: Mapping[str, Any],
        options: Mapping[str, Any],
        caller: Caller,
        client: tuple[int | None, str | None] = (None, None),
    ) -> Allowed:
        """A task and its layers as they shall be. Raises UserRequestRejectedByPolicy, RestfulPolicyError."""
        configuration = self._whole()
        where = configuration.get("admin_policy")
        if not where:
            return Allowed(task, layers)
        shown = {key: value for key, value in configuration.items() if key not in _HIDDEN}
        asked = Asked(
            task,
            merge(shown, layers),
            NAMES[name],
            options,
            False,
            {"id": user_hash(caller.user), "name": caller.user},
            *client,
        )
        if is_service(str(where)):
            return await asyncio.to_thread(ask_service, str(where), asked)
        async with self._turn:
            return await self._ask_worker(str(where), asked)

    async def close(self) -> None:
        """End the process that asks classes."""
        worker, self._worker = self._worker, None
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.kill()
            await worker.wait()

    async def _ask_worker(self, where: str, asked: Asked) -> Allowed:
        line = json.dumps({"policy": where, "asked": asked._asdict()}).encode() + b"\n"
        try:
            async with asyncio.timeout(ANSWER_S):
                worker = await self._started()
                assert worker.stdin is not None
                assert worker.stdout is not None
                worker.stdin.write(line)
                await worker.stdin.drain()
                answer = await worker.stdout.readline()
            told = json.loads(answer)
        except TimeoutError:
            await self.close()
            raise RestfulPolicyError(f"The admin policy {where} did not answer within {ANSWER_S:g} seconds.") from None
        except (OSError, ValueError) as failed:
            await self.close()
            raise RestfulPolicyError(
                f"The admin policy {where} could not be asked ({failed}); the server's log says more."
            ) from None
        except asyncio.CancelledError:
            # Its answer would be taken for that to the next question.
            await self.close()
            raise
        if "error" in told:
            raise from_wire(told["error"])
        return Allowed(told["task"], told["config"])

    async def _started(self) -> asyncio.subprocess.Process:
        if self._worker is None or self._worker.returncode is not None:
            words = (sys.executable, "-P", "-m", "sky.sdk.policy_worker")
            self._worker = await asyncio.create_subprocess_exec(
                *words, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=MOST
            )
        return self._worker
