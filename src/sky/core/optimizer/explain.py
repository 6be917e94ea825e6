"""Why not there? For any place, type or accelerator: the rule that speaks against it, the figures, and a remedy.

Called for `sky optimize --explain` and its like. A choice is never explained by what the ranking happened to meet:
the catalog is asked about exactly what the question names.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from sky.core.model.catalog import Market, Query
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer, Reason, Rejection
from sky.core.optimizer.conditions import Conditions
from sky.core.optimizer.fit import RULES, Misfit, against, misfit, since
from sky.core.optimizer.goals import Goal, worth
from sky.core.optimizer.gravity import bring, money, span
from sky.core.optimizer.locations import Search
from sky.core.optimizer.memory import Key
from sky.core.optimizer.plan import percent
from sky.core.optimizer.rank import Ranked
from sky.core.optimizer.wanted import Wish, query

#: Offers looked at for one question.
_MOST_LOOKED_AT = 400


@dataclass(frozen=True, slots=True)
class Question:
    """Why not this? What is None is left open."""

    infra: Infra = Infra()  # noqa: RUF009 - a frozen value
    instance_type: str | None = None
    accelerator: str | None = None
    market: Market | None = None

    def __str__(self) -> str:
        parts = [self.instance_type, self.accelerator, self.market.value.replace("_", "-") if self.market else None]
        return f"{' '.join(part for part in parts if part) or 'anything'} in {self.infra}"


def why_not(search: Search, question: Question, best: Ranked | None) -> Rejection:
    """One answer: what fits there and how much worse it is than the choice, else what stands nearest to fitting.

    `best` is the choice, None where nothing fits anywhere.
    """
    free = replace(search, conditions=_unhindered(search.conditions))
    fitting = _best_fitting(free, question)
    if fitting is not None:
        return _judged(search, fitting, best)
    nearest = _nearest(search, question)
    if nearest is not None:
        return nearest
    asked = " or ".join(dict.fromkeys(_shape(wish) for wish in search.wishes))
    what = question.instance_type or question.accelerator or asked
    return Rejection(
        str(question.infra),
        question.instance_type or "*",
        f"no {what} in {question.infra}",
        Reason.NOT_SOLD,
        what,
        "nothing",
        "`sky gpus list` shows what is sold where" if any(wish.accelerator for wish in search.wishes) else "",
    )


def every_cloud(search: Search, best: Ranked | None) -> tuple[Rejection, ...]:
    """One answer for each cloud of the catalog and of the offers beside it, in the order of their names."""
    return tuple(why_not(search, Question(Infra(cloud)), best) for cloud in known_clouds(search))


def known_clouds(search: Search) -> list[str]:
    """The clouds of the catalog and of the offers beside it, by name."""
    return sorted({each.cloud for each in search.catalog.places()} | {each.cloud for each in search.conditions.extra})


def _unhindered(conditions: Conditions) -> Conditions:
    """Only what the task itself asks for counts, not what the user or the place has against an offer."""
    return replace(
        conditions, enabled=None, blocked=(), quotas=(), denied=None, unsuited=None, features={}, replaced=frozenset()
    )


def _shape(wish: Wish) -> str:
    """`A100:8`, `8+ vCPUs`, `p4d.24xlarge`."""
    if wish.instance_type is not None:
        return wish.instance_type
    if wish.accelerator is not None:
        return str(wish.accelerator)
    return f"{wish.rented_cpus} vCPUs" if wish.rented_cpus else "machine of this size"


def _best_fitting(search: Search, question: Question) -> Ranked | None:
    """The best that meets a wish within the question."""
    asked_for = _canonical(search, question.accelerator)
    exact, others = [], []
    for wish in search.wishes:
        together = _meet(wish.infra, question.infra)
        if together is None or question.market not in (None, wish.market):
            continue
        named = wish.accelerator.name if wish.accelerator and not wish.accelerator.is_filter else None
        if question.instance_type is None and asked_for in (None, named):
            exact.append(replace(wish, infra=together))
        elif asked_for is None or named in (None, asked_for):
            others.append(wish)
    found = [next(replace(search, wishes=tuple(exact)).ranking(), None)]
    found += (_ranked(search, wish, offer) for wish in others for offer in _offers(search, question, wish=wish))
    return min((each for each in found if each is not None), key=lambda each: each.worth.key, default=None)


def _ranked(search: Search, wish: Wish, offer: Offer) -> Ranked | None:
    conditions = search.conditions
    if misfit(wish, offer, conditions) is not None:
        return None
    transfer = bring(conditions.holdings, (offer.cloud, offer.region), conditions.tariff)
    return Ranked(wish, offer, worth(search.goal, offer, wish.num_nodes, transfer, conditions))


def _meet(one: Infra, other: Infra) -> Infra | None:
    """What lies in both places."""
    parts = []
    for mine, its in ((one.cloud, other.cloud), (one.region, other.region), (one.zone, other.zone)):
        if mine is not None and its is not None and mine != its:
            return None
        parts.append(mine if its is None else its)
    return Infra(*parts)


def _canonical(search: Search, accelerator: str | None) -> str | None:
    return None if accelerator is None else search.catalog.accelerators().get(accelerator.lower(), accelerator)


def _offers(
    search: Search, question: Question, accelerator: str | None = None, wish: Wish | None = None
) -> Iterator[Offer]:
    """What is sold within a question, cheapest first, at the user's own prices; the offers beside the catalog first.

    With a `wish`, only what can meet it: of all that a question names, the cheapest may be far from that.
    """
    infra = question.infra
    name = _canonical(search, accelerator or question.accelerator)
    for offer in search.conditions.extra:
        names = {each.lower() for each in offer.accelerators}
        if (
            infra.covers(Infra(offer.cloud, offer.region, offer.zone))
            and question.instance_type in (None, offer.instance_type)
            and question.market in (None, offer.market)
            and (name is None or name.lower() in names)
        ):
            yield offer
    asked = _asked(question, wish, name)
    if asked is not None:
        yield from map(search.conditions.priced, islice(search.catalog.offers(asked), _MOST_LOOKED_AT))


def _asked(question: Question, wish: Wish | None, accelerator: str | None) -> Query | None:
    """The question as a catalog is asked it, within a wish if there is one; None where nothing is in both."""
    infra = question.infra
    clouds = frozenset([infra.cloud]) if infra.cloud else None
    asked = Query(clouds=clouds, region=infra.region) if wish is None else query(wish, clouds, infra.region)
    return asked and asked._replace(
        zone=infra.zone or asked.zone,
        instance_type=question.instance_type or asked.instance_type,
        accelerator=accelerator or asked.accelerator,
        market=question.market or asked.market,
    )


def _judged(search: Search, fitting: Ranked, best: Ranked | None) -> Rejection:
    """What meets the wish is hindered by something else, or is worse than the choice, or is the choice."""
    offer = fitting.offer
    wrong = against(fitting.wish, offer, search.conditions)
    price = f"{money(fitting.worth.price)} for {span(search.conditions.tempo.hours)}"
    if wrong is not None:
        words = f"{wrong.words} ({_compared(search, fitting, best)})"
        return wrong._replace(words=words, found=wrong.found or price).of(offer)
    refusal = refused(search.conditions, offer)
    beside = f"; {refusal}" if refusal else ""
    if best is None or _same(best.offer, offer):
        return Rejection(offer.place, offer.instance_type, f"this is the choice{beside}", None, "", price)
    slower = search.goal is Goal.TIME and fitting.worth.key[0] > best.worth.key[0]
    if refusal and search.goal is Goal.EXPECTED and fitting.worth.price <= best.worth.price:
        # Its price alone could have made it the choice.
        words, code = f"{refusal}; {_compared(search, fitting, best)} with what that makes likely", Reason.REFUSED
    else:
        words, code = _compared(search, fitting, best) + beside, Reason.SLOWER if slower else Reason.DEARER
    return Rejection(
        offer.place,
        offer.instance_type,
        words,
        code,
        _figure(search.goal, best),
        _figure(search.goal, fitting),
        f"infra: {offer.place} takes it",
    )


def refused(conditions: Conditions, offer: Offer) -> str:
    """`refused 12 minutes ago: no capacity`, if this very offer was and that is on record; else empty."""
    found = conditions.memory.last_refusal(Key.of(offer))
    if found is None:
        return ""
    at, why = found
    return f"refused {since(conditions.now - at)} ago" + (f": {why}" if why else "")


def _compared(search: Search, each: Ranked, best: Ranked | None) -> str:
    if best is None:
        return f"{_figure(search.goal, each)}, and nothing else fits"
    worse, base = each.worth.key[0] - best.worth.key[0], best.worth.key[0]
    if abs(worse) <= 1e-9 * abs(base):
        if search.goal is Goal.TIME and each.worth.key[1] > best.worth.key[1]:
            return f"as fast as the choice, and dearer: {money(each.worth.key[1])}"
        return "as good as the choice; ties are decided by name"
    word = "slower" if search.goal is Goal.TIME else "dearer"
    if worse < 0:
        word = {"slower": "faster", "dearer": "cheaper"}[word]
    size = percent(abs(worse) / base).lstrip("+") if base > 0 else _figure(search.goal, each)
    return f"{size} {word} than the choice"


def _figure(goal: Goal, each: Ranked) -> str:
    return span(each.worth.key[0]) if goal is Goal.TIME else money(each.worth.key[0])


def _same(one: Offer, other: Offer) -> bool:
    return (one.cloud, one.region, one.zone, one.instance_type, one.use_spot) == (
        other.cloud,
        other.region,
        other.zone,
        other.instance_type,
        other.use_spot,
    )


def _nearest(search: Search, question: Question) -> Rejection | None:
    """Of what is sold there the one that fails the last of the rules; the cheapest of several."""
    best: tuple[int, float, Rejection] | None = None
    for wish in search.wishes:
        name = wish.accelerator.name if wish.accelerator and not wish.accelerator.is_filter else None
        kinds = [name, None] if name is not None and question.accelerator is None else [None]
        # First what has everything that was asked for, and breaks a later rule; then wider and wider.
        for offers in (_offers(search, question, wish=wish), *(_offers(search, question, kind) for kind in kinds)):
            found = _nearest_of(search, wish, offers)
            if found is not None and (best is None or found[:2] < best[:2]):
                best = found
            if found is not None:
                break
    return None if best is None else best[2]


def _nearest_of(search: Search, wish: Wish, offers: Iterator[Offer]) -> tuple[int, float, Rejection] | None:
    best: tuple[int, float, Rejection] | None = None
    for offer in offers:
        depth, wrong = _first_broken(wish, offer, search.conditions)
        if wrong is None:
            continue
        if best is None or (-depth, offer.price_hourly) < best[:2]:
            best = (-depth, offer.price_hourly, wrong.of(offer))
    return best


def _first_broken(wish: Wish, offer: Offer, conditions: Conditions) -> tuple[int, Misfit | None]:
    for depth, rule in enumerate(RULES):
        wrong = rule(wish, offer)
        if wrong is not None:
            return depth, wrong
    return len(RULES), against(wish, offer, conditions)
