"""Asks every provider what it sells and lets `core.optimizer` rank it; used by launch, dry runs and `sky.optimize`."""

import asyncio
from collections.abc import Iterable

from sky.core.errors import NotSupportedError, ProviderFailure, ResourcesUnavailableError
from sky.core.model.offers import Offer, Plan, Rejection
from sky.core.model.tasks import TaskSpec
from sky.core.optimizer.choose import plan
from sky.core.ports import Providers


async def offers(providers: Providers) -> tuple[list[Offer], list[Rejection]]:
    """Everything on sale, and the places that could not be asked."""
    names = providers.names()
    answers = await asyncio.gather(*(_ask(providers, name) for name in names))
    found = [offer for answer in answers if not isinstance(answer, Rejection) for offer in answer]
    return found, [answer for answer in answers if isinstance(answer, Rejection)]


async def _ask(providers: Providers, name: str) -> Iterable[Offer] | Rejection:
    try:
        return await providers.compute(name).offers()
    except (ProviderFailure, NotSupportedError) as error:
        return Rejection(name, "*", str(error))


async def place(providers: Providers, task: TaskSpec) -> Plan:
    """The ranked placements of a task. Raises ResourcesUnavailableError with every reason when there is none."""
    on_sale, unasked = await offers(providers)
    made = plan(task.resources, task.resources_order == "ordered", task.num_nodes, on_sale)
    made = Plan(made.placements, (*made.rejections, *unasked))
    if not made.placements:
        asked = " or ".join(str(each).removesuffix("()") for each in task.resources)
        reasons = "\n".join(f"  {each.place} {each.instance_type}: {each.reason}" for each in made.rejections)
        unknown = {each.infra.cloud for each in task.resources if each.infra.cloud} - set(providers.names())
        for cloud in sorted(unknown):
            reasons += f"\n  not supported yet on {cloud}"
        raise ResourcesUnavailableError(
            f"No place for {task.num_nodes}x {asked}.\n{reasons.strip(chr(10)) or '  nothing is on sale'}\n"
            "`sky check` lists the places that can be used.",
            no_failover=True,
        )
    return made
