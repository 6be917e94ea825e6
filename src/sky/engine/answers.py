"""What is said about a plan besides the plan: why not elsewhere, what if, when. Called by `plans`."""

from collections.abc import Iterator
from itertools import islice
from typing import TypedDict

from sky.core.errors import InvalidSkyPilotConfigError
from sky.core.model.accelerators import parse_accelerator
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer, Placement, Reason, Rejection, Standing
from sky.core.optimizer.compare import Comparison, Outlook, what_if, when
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.explain import Question, every_cloud, refused, why_not
from sky.core.optimizer.goals import Goal
from sky.core.optimizer.gravity import money, span
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Chance
from sky.core.optimizer.plan import laid_out, percent
from sky.core.optimizer.rank import Ranked
from sky.core.optimizer.relax import relaxations
from sky.core.optimizer.wanted import query
from sky.core.ports import Catalog
from sky.kit.frozen import replace

#: Offers of one cloud that are looked through for the best of each accelerator.
_MOST_OF_A_CLOUD = 60
#: Answers that say that nothing there would do.
_NOTHING_FITS = (Reason.NOT_SOLD, Reason.ACCELERATORS, Reason.CPUS, Reason.MEMORY, Reason.ACCELERATOR_MEMORY)
#: Listings that are looked through for one without a price.
_MOST_UNPRICED = 400


def explained(
    search: Search,
    catalog: Catalog,
    best: Ranked | None,
    questions: tuple[str, ...],
    *,
    everywhere: bool,
    note: str = "",
) -> list[Rejection]:
    """Answers to `--why-not`, then one for every cloud. `note` is what binds a group, which prices do not tell."""
    found = [
        _or_unpriced(why_not(search, each, best), each, search, catalog)
        for text in questions
        for each in read_question(text, search)
    ]
    if everywhere:
        for answer in every_cloud(search, best):
            about = Question(Infra(answer.place.partition("/")[0]))
            found.append(_or_unpriced(answer, about, search, catalog))
    return [_bound(each, note) for each in found] if note else found


def _or_unpriced(answer: Rejection, about: Question, search: Search, catalog: Catalog) -> Rejection:
    """The answer, or that something is sold there which would do, and only its price is not known."""
    if answer.code not in _NOTHING_FITS:
        return answer
    for wish in search.wishes:
        clouds = None if about.infra.cloud is None else frozenset([about.infra.cloud])
        asked = query(wish, clouds, about.infra.region)
        if asked is None or about.instance_type not in (None, asked.instance_type or about.instance_type):
            continue
        asked = asked._replace(market=None, instance_type=about.instance_type or asked.instance_type)
        for each in islice(catalog.listings(asked), _MOST_UNPRICED):
            if each.price is None and each.spot_price is None:
                cloud, name = each.type.cloud, each.type.name
                return Rejection(
                    f"{cloud}/{each.region}",
                    name,
                    "is sold there, at a price that is not known",
                    Reason.NO_PRICE,
                    remedy=f"`sky catalog refresh --infra {cloud}` asks for it",
                )
    return answer


def _bound(answer: Rejection, note: str) -> Rejection:
    if answer.code not in (Reason.DEARER, Reason.SLOWER):
        return answer
    return replace(answer, reason=f"by itself {answer.reason}; {note}", remedy="")


def read_question(text: str, search: Search) -> list[Question]:
    """`aws/eu-west-1`, `p4d.24xlarge`, `H100:8`, or an instance type or accelerator with `@aws/eu-west-1` behind it.

    Raises InvalidSkyPilotConfigError for what is none of these, with what could have been meant.
    """
    what, _, where = text.strip().partition("@")
    infra = _infra(where) if where else Infra()
    if infra is None:
        raise InvalidSkyPilotConfigError(f"--why-not: found {where!r} behind @; allowed: an infra like aws/us-east-1")
    if not where and (place := _infra(what)) is not None:
        return [Question(place)]
    if not where and any(what == each.cloud for each in search.conditions.extra):
        return [Question(Infra(what))]  # a place of the user's own
    sold = search.catalog.types(what)
    if sold:
        clouds = sorted({each.cloud for each in sold if infra.cloud in (None, each.cloud)})
        return [Question(Infra(cloud, infra.region, infra.zone), instance_type=what) for cloud in clouds]
    try:
        name = parse_accelerator(what).name
    except ValueError as error:
        raise InvalidSkyPilotConfigError(f"--why-not: {error}") from None
    known = search.catalog.accelerators()
    if name.lower() in known:
        return [Question(infra, accelerator=known[name.lower()])]
    if any(what == each.instance_type for each in search.conditions.extra):
        return [Question(infra, instance_type=what)]
    raise InvalidSkyPilotConfigError(
        f"--why-not: found {text!r}; allowed: an infra (aws/us-east-1), an instance type (p4d.24xlarge) or an "
        "accelerator (H100:8) that the catalog knows. `sky gpus list -a` shows them."
    )


def _infra(text: str) -> Infra | None:
    try:
        return Infra.parse(text)
    except ValueError:
        return None


def opened(search: Search, rentable: frozenset[str]) -> list[str]:
    """What giving up one constraint would open, as lines. `rentable`: places where this version can make machines."""
    found = relaxations(search)
    within = [each for each in found if each.opens.offer.cloud in rentable]
    beyond = [f"{each} (this version cannot rent machines there yet)" for each in found if each not in within]
    return [*map(str, within), *beyond]


def compared(search: Search, changes: tuple[str, ...]) -> list[str]:
    """One line per change. Raises InvalidSkyPilotConfigError for one that is not understood."""
    return [_comparison(what_if(search, **_change(text)), search.goal) for text in changes]


class _Change(TypedDict, total=False):
    """A change as `compare.what_if` takes it."""

    spot: bool
    region: str
    infra: Infra


def _change(text: str) -> _Change:
    key, _, value = text.strip().partition("=")
    match key.lower().replace("_", "-"), value:
        case "spot", "":
            return {"spot": True}
        case "on-demand", "":
            return {"spot": False}
        case "region", region if region:
            return {"region": region}
        case "infra", infra if infra:
            found = _infra(infra)
            if found is not None:
                return {"infra": found}
    raise InvalidSkyPilotConfigError(
        f"--what-if: found {text!r}; allowed: spot, on-demand, region=us-east-1, infra=gcp/us-central1"
    )


def _comparison(each: Comparison, goal: Goal) -> str:
    if each.then is None:
        return f"{each.change}: nothing fits"
    offer = each.then.offer
    figure = _figure(each.then, goal)
    line = f"{each.change}: {offer.instance_type}{'[Spot]' if offer.use_spot else ''} in {offer.place}, {figure}"
    if each.now is None or each.difference is None:
        return f"{line}; today nothing fits"
    base = each.now.worth.key[0]
    if abs(each.difference) <= 1e-9 * abs(base):
        return f"{line}: the same"
    word = ("slower" if each.difference > 0 else "faster") if goal is Goal.TIME else "dearer"
    word = "cheaper" if goal is not Goal.TIME and each.difference < 0 else word
    size = percent(abs(each.difference) / base).lstrip("+") if base > 0 else _amount(abs(each.difference), goal)
    return f"{line}: {size} {word}"


def _figure(each: Ranked, goal: Goal) -> str:
    return _amount(each.worth.key[0], goal)


def _amount(figure: float, goal: Goal) -> str:
    return span(figure) if goal is Goal.TIME else money(figure)


def chances(search: Search) -> list[str]:
    """What is known of the chance of getting the choice; says so where nothing is."""
    found = when(search)
    lines = list(_outlook(found, search.goal))
    if found.choice is not None and (refusal := refused(search.conditions, found.choice.offer)):
        lines.insert(1, refusal)
    return lines


def _outlook(found: Outlook, goal: Goal) -> Iterator[str]:
    if found.choice is None:
        yield "nothing fits, so there is nothing to wait for"
        return
    offer = found.choice.offer
    where = f"{offer.instance_type}{'[Spot]' if offer.use_spot else ''} in {offer.place}"
    if found.now is None:
        yield f"{where}: not known: machines were not asked for there, or anywhere around, often enough"
        return
    yield f"{where} now: {_chance(found.now)}"
    yield f"{where} within 30 minutes: {_chance(found.soon) if found.soon is not None else 'not known'}"
    if found.certain is None or found.extra is None:
        yield "no place is known to be nearly certain"
    elif found.certain.offer == offer:
        yield "it is as good as certain already"
    else:
        sure = found.certain.offer
        yield f"nearly certain: {sure.instance_type} in {sure.place}, for {_amount(found.extra, goal)} more"


def _chance(chance: Chance) -> str:
    return f"{chance.mean:.0%} ({chance.low:.0%} to {chance.high:.0%})"


def best_of_places(search: Search, clouds: list[str], best: Ranked | None) -> list[tuple[Placement, Standing]]:
    """For each cloud its best placement of each accelerator: the rows of the interface's table, the choice first."""
    found: list[Ranked] = []
    for cloud in clouds:
        first = {_row(best): best} if best is not None and best.offer.cloud == cloud else {}
        there = replace(search, conditions=_only(search, cloud))
        for each in islice(there.ranking(), _MOST_OF_A_CLOUD):
            first.setdefault(_row(each), each)
        found += first.values()

    def standing(each: Ranked) -> tuple[object, ...]:
        rank = each.wish.rank if search.ordered else 0
        return (each is not best, rank, each.worth.key, each.offer.place)

    found.sort(key=standing)
    plan = laid_out(found, search.conditions, search.goal)
    return list(zip(plan.placements, plan.standings, strict=True))


def _row(each: Ranked) -> object:
    return (tuple(sorted(each.offer.accelerators.items())), each.offer.use_spot)


def _only(search: Search, cloud: str) -> Conditions:
    extra: tuple[Offer, ...] = tuple(offer for offer in search.conditions.extra if offer.cloud == cloud)
    return replace(search.conditions, enabled=frozenset([cloud]), extra=extra)
