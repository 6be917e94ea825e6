"""Calls about receipts: what a managed job or a cluster has cost."""

from sky.core.errors import ClusterDoesNotExist
from sky.core.model.users import Caller
from sky.engine.receipts import Receipted
from sky.server.api import Api
from sky.server.asgi import Route
from sky.server.permissions import no_managed_job
from sky.wire.receipts import About, ReceiptBody, ReceiptRecord, receipt_record


def routes(api: Api) -> list[Route]:
    """The routes of this noun."""

    async def receipt(body: ReceiptBody, caller: Caller) -> ReceiptRecord:
        if body.job_id is not None:
            about, made = await _of_job(api, body.job_id, caller)
        else:
            about, made = await _of_cluster(api, body.cluster or "", caller)
        return receipt_record(about, made.receipt, list(made.lines), api.plane.clock.now())

    return [api.read("/receipt", ReceiptBody, ReceiptRecord, "What a managed job or a cluster has cost", receipt)]


async def _of_job(api: Api, number: int, caller: Caller) -> tuple[About, Receipted]:
    job = await api.may.managed_job(caller, number)
    if job is None:
        raise no_managed_job(number)
    about = About(job_id=number, name=job.name, user=job.user, workspace=job.workspace, status=job.status.value)
    return about, await api.plane.money.receipts.of_job(job)


async def _of_cluster(api: Api, name: str, caller: Caller) -> tuple[About, Receipted]:
    receipts = api.plane.money.receipts
    found = await receipts.cluster(name)
    if found is None or not await api.may.shown(caller, [found]):
        raise ClusterDoesNotExist(f"No cluster '{name}' is on record. `sky cost-report --all` lists those that are.")
    status = found.status.value if found.alive else "TERMINATED"
    about = About(job_id=None, name=found.name, user=found.user, workspace=found.workspace, status=status)
    return about, await receipts.of_cluster(found)
