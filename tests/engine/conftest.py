"""A whole control plane without doors: the real store, the real local provider, real agents."""

import pytest

from sky.server.assembly import build
from sky.server.settings import Settings

DEVICES = {"local": {"cpus": 4, "accelerators": {"H100": 2}}}


@pytest.fixture
def state(tmp_path):
    return tmp_path / "s"


@pytest.fixture
async def plane(state):
    made = build(Settings(state, config=DEVICES))
    await made.start()
    yield made
    for cluster in await made.clusters():
        done = await made.submit("down", {"cluster_name": cluster.name, "purge": True}, user="u")
        await made.wait(done.id, 60)
    await made.stop()


@pytest.fixture
def ask(plane):
    """Submit a request and wait for its end."""

    async def asked(name, body, timeout=100):
        request = await plane.submit(name, body, user="u")
        return await plane.wait(request.id, timeout)

    return asked


@pytest.fixture
def log_of(plane):
    """A job's whole log, followed to its end."""

    async def read(cluster, job_id):
        pieces = [piece.data async for piece in plane.job_log(cluster, job_id, follow=True)]
        return b"".join(pieces).decode()

    return read
