"""What the user says against the catalog: own prices, places of his own, what not to take, reservations, quotas.

`store.catalog.override_files` reads the files and hands over plain mappings; the optimizer applies the `Overrides`.
Every rule remembers where it was written, as `file:line` or, in TOML, `file#number` of its table. A later rule beats an
earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Generic, NamedTuple, TypeVar

from sky.core.catalog.accelerators import canonical, known
from sky.core.model.accelerators import parse_accelerators
from sky.core.model.catalog import Market, Quality
from sky.core.model.conditions import Quota, Reservation
from sky.core.model.infra import Infra
from sky.core.model.offers import Offer

_MARKETS: Mapping[str, Market | None] = {
    "any": None, "on_demand": Market.ON_DEMAND, "on-demand": Market.ON_DEMAND, "spot": Market.SPOT,
}  # fmt: skip

#: What each kind of table may say, with what it must.
_TABLES: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "price": (frozenset({"infra", "instance_type", "market", "price", "multiplier"}), frozenset({"infra"})),
    "deny": (frozenset({"infra", "instance_type", "market", "reason"}), frozenset()),
    "reservation": (
        frozenset({"infra", "instance_type", "count"}), frozenset({"infra", "instance_type", "count"}),
    ),
    "quota": (frozenset({"infra", "instance_type", "market", "max_nodes", "max_cpus"}), frozenset({"infra"})),
    "offer": (
        frozenset({
            "infra", "instance_type", "cpus", "memory", "accelerators", "accelerator_memory", "price", "spot_price",
            "arch", "local_disk", "features",
        }),
        frozenset({"infra", "instance_type", "cpus", "memory"}),
    ),
}  # fmt: skip
_CSV_NEEDED = ("cloud", "instance_type", "market", "price")
_CSV_KNOWN = frozenset(
    {*_CSV_NEEDED, "region", "zone", "cpus", "memory", "accelerator", "accelerator_count"}
)  # fmt: skip


#: Whether a cloud has a type of this name.
Knows = Callable[[str, str], bool]


class Written(NamedTuple):
    """A table of TOML of this kind (`price`, …), or a row of CSV (`None`), as it was read, and where it stands."""

    kind: str | None
    fields: Mapping[str, object]
    source: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Which offers a rule speaks of; what is `None` is open.

    A type is named by `type_name`, or `pattern` matches the whole name.
    """

    infra: Infra
    type_name: str | None = None
    pattern: re.Pattern[str] | None = None
    market: Market | None = None

    def covers(self, offer: Offer) -> bool:
        """Whether the rule speaks of this offer. A rule for one zone does not speak of a price for its region."""
        infra = self.infra
        return (
            (infra.cloud is None or infra.cloud == offer.cloud)
            and (infra.region is None or infra.region == offer.region)
            and (infra.zone is None or infra.zone == offer.zone)
            and (self.market is None or (self.market is Market.SPOT) == offer.use_spot)
            and self.type_name in (None, offer.instance_type)
            and (self.pattern is None or self.pattern.fullmatch(offer.instance_type) is not None)
        )


@dataclass(frozen=True, slots=True)
class PriceRule:
    """Another price, in USD per node and hour, or a factor on the one of the catalog."""

    scope: Scope
    price: float | None
    multiplier: float | None
    source: str


@dataclass(frozen=True, slots=True)
class Denial:
    """What is not to be taken, and the user's reason."""

    scope: Scope
    reason: str
    source: str


_R = TypeVar("_R", PriceRule, Denial)


class _Rules(Generic[_R]):
    """Rules in their order, found by the type that they name: a price list may have ten thousand of them."""

    __slots__ = ("_named", "_open", "_rules")

    def __init__(self, rules: tuple[_R, ...]) -> None:
        self._rules: tuple[_R, ...] = rules
        self._named: dict[str, list[int]] = {}
        #: Those that name no type, or several.
        self._open: list[int] = []
        for number, rule in enumerate(rules):
            name = rule.scope.type_name
            (self._open if name is None else self._named.setdefault(name, [])).append(number)

    def last(self, offer: Offer) -> _R | None:
        """The last rule that speaks of an offer: it beats those before it."""
        found = -1
        for numbers in (self._named.get(offer.instance_type, ()), self._open):
            for number in reversed(numbers):
                if number < found:
                    break
                if self._rules[number].scope.covers(offer):
                    found = number
                    break
        return self._rules[found] if found >= 0 else None


@dataclass(frozen=True, slots=True)
class Overrides:
    """All rules. `extra` are offers of places that no catalog has."""

    extra: tuple[Offer, ...] = ()
    prices: tuple[PriceRule, ...] = ()
    denials: tuple[Denial, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    quotas: tuple[Quota, ...] = ()
    _price_rules: _Rules[PriceRule] = field(init=False, repr=False, compare=False)
    _denial_rules: _Rules[Denial] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_price_rules", _Rules(self.prices))
        object.__setattr__(self, "_denial_rules", _Rules(self.denials))

    @property
    def least_factor(self) -> float:
        """The least that a rule multiplies a price by; 1 where none does. Rules that name a price are not meant."""
        return min([1.0, *(rule.multiplier for rule in self.prices if rule.multiplier is not None)])

    def price_of(self, offer: Offer) -> Offer:
        """The offer at the price that the user has; itself where no rule speaks of it."""
        rule = self._price_rules.last(offer)
        if rule is None:
            return offer
        price = rule.price if rule.price is not None else offer.price_hourly * (rule.multiplier or 1.0)
        return replace(offer, price_hourly=price, quality=Quality.OWN, source=rule.source)

    def denied(self, offer: Offer) -> str | None:
        """Why the user does not want this offer, and where that is written."""
        rule = self._denial_rules.last(offer)
        return None if rule is None else f"{rule.reason} ({rule.source})"


@dataclass(slots=True)
class _Making:
    extra: list[Offer] = field(default_factory=list)
    prices: list[PriceRule] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    reservations: list[Reservation] = field(default_factory=list)
    quotas: list[Quota] = field(default_factory=list)


def parse(written: Iterable[Written], knows: Knows = lambda _cloud, _name: False) -> Overrides:
    """Read tables and rows in their order. Raises ValueError with file, place, what was found and what is allowed.

    `knows` tells whether a cloud has a type of a name: a row of CSV for one that it has, or without `cpus`, changes a
    price; another one adds an offer.
    """
    making = _Making()
    for each in written:
        try:
            if each.kind is None:
                _read_csv(each, making, knows)
            else:
                _read_table(each, making)
        except _Wrong as wrong:
            raise ValueError(f"{each.source}: {wrong}") from None
    return Overrides(
        tuple(making.extra), tuple(making.prices), tuple(making.denials), tuple(making.reservations),
        tuple(making.quotas),
    )  # fmt: skip


class _Wrong(Exception):
    """What is wrong with one rule; `parse` adds where it stands."""


def _read_table(written: Written, making: _Making) -> None:
    fields = written.fields
    if written.kind is None or written.kind not in _TABLES:
        raise _Wrong(f"found [[{written.kind}]]; allowed: {', '.join(f'[[{kind}]]' for kind in _TABLES)}")
    allowed, needed = _TABLES[written.kind]
    for key in fields:
        if key not in allowed:
            raise _Wrong(f"found '{key}' in [[{written.kind}]]; allowed: {', '.join(sorted(allowed))}")
    for key in sorted(needed):
        if key not in fields:
            raise _Wrong(f"found no '{key}' in [[{written.kind}]]; it needs {', '.join(sorted(needed))}")
    match written.kind:
        case "price":
            making.prices.append(_price_rule(written))
        case "deny":
            if not {"infra", "instance_type"} & fields.keys():
                raise _Wrong("found neither 'infra' nor 'instance_type' in [[deny]]; one says what to leave out")
            reason = _text(fields, "reason") or "left out by you"
            making.denials.append(Denial(_scope(fields), reason, written.source))
        case "reservation":
            making.reservations.append(_reservation(written))
        case "quota":
            making.quotas.append(_quota(written))
        case _:
            making.extra += _private_offers(written)


def _price_rule(written: Written) -> PriceRule:
    price, factor = _number(written.fields, "price", least=0.0), _number(written.fields, "multiplier", least=0.0)
    if (price is None) == (factor is None):
        found = "both" if price is not None else "neither"
        raise _Wrong(f"found {found} of 'price' and 'multiplier' in [[price]]; allowed: one of them")
    if factor == 0.0:
        # Nothing times any price: said as a price, so that what else the catalog has keeps its order.
        price, factor = 0.0, None
    return PriceRule(_scope(written.fields), price, factor, written.source)


def _reservation(written: Written) -> Reservation:
    infra = _infra(written.fields)
    count = _number(written.fields, "count", least=1)
    name = _text(written.fields, "instance_type") or ""
    if infra.cloud is None:
        raise _Wrong("found no cloud in 'infra'; a reservation is one of a cloud")
    if count is None or count != int(count):
        raise _Wrong(f"found the count {count}; allowed: a whole number above 0")
    return Reservation(infra.cloud, infra.region, infra.zone, name, int(count), written.source)


def _quota(written: Written) -> Quota:
    infra, fields = _infra(written.fields), written.fields
    nodes, cpus = _number(fields, "max_nodes", least=0), _number(fields, "max_cpus", least=0)
    if infra.cloud is None or infra.zone is not None:
        raise _Wrong(f"found the infra '{infra}'; a quota is one of a cloud or of a region: cloud, cloud/region")
    if nodes is None and cpus is None:
        raise _Wrong("found neither 'max_nodes' nor 'max_cpus' in [[quota]]; allowed: one of them, or both")
    if nodes is not None and nodes != int(nodes):
        raise _Wrong(f"found max_nodes {nodes:g}; allowed: a whole number")
    name = _text(fields, "instance_type") or "*"
    whole = None if nodes is None else int(nodes)
    return Quota(infra.cloud, infra.region, name, _market(fields), whole, cpus, written.source)


def _private_offers(written: Written) -> list[Offer]:
    fields = written.fields
    infra = _infra(fields)
    if infra.cloud is None:
        raise _Wrong("found no cloud in 'infra'; an offer is one of a place")
    accelerators = _accelerators(fields.get("accelerators"))
    device = _number(fields, "accelerator_memory", least=0.0)
    features = fields.get("features", [])
    if not isinstance(features, list) or not all(isinstance(word, str) for word in features):
        raise _Wrong(f"found the features {str(features)[:60]}; allowed: a list of words")
    offer = Offer(
        infra.cloud, infra.region or infra.cloud, infra.zone, _text(fields, "instance_type") or "",
        _number(fields, "cpus", least=0.0) or 0.0, _number(fields, "memory", least=0.0) or 0.0, 0.0, accelerators,
        accelerator_memory_gb=device if device is not None else _memory_of(accelerators),
        arch=_text(fields, "arch") or "x86_64", local_disk_gb=_number(fields, "local_disk", least=0.0) or 0.0,
        features=frozenset(features), quality=Quality.OWN, source=written.source,
    )  # fmt: skip
    price, spot = _number(fields, "price", least=0.0), _number(fields, "spot_price", least=0.0)
    if price is None and spot is None:
        raise _Wrong("found neither 'price' nor 'spot_price' in [[offer]]; a machine that is yours costs 0")
    made = [] if price is None else [replace(offer, price_hourly=price)]
    return made if spot is None else [*made, replace(offer, price_hourly=spot, use_spot=True)]


def _read_csv(written: Written, making: _Making, knows: Knows) -> None:
    fields: dict[str, object] = {key: text for key, text in written.fields.items() if str(text).strip()}
    unknown = sorted(set(fields) - _CSV_KNOWN)
    if unknown:
        raise _Wrong(f"found the column '{unknown[0]}'; allowed: {', '.join(sorted(_CSV_KNOWN))}")
    for key in _CSV_NEEDED:
        if key not in fields:
            raise _Wrong(f"found nothing under '{key}'; every row needs {', '.join(_CSV_NEEDED)}")
    place = [str(fields.get(key, "*")).strip() for key in ("cloud", "region", "zone")]
    fields["infra"] = "/".join(place).removesuffix("/*").removesuffix("/*")
    name = _text(fields, "instance_type") or ""
    infra = _infra(fields)
    price = _number(fields, "price", least=0.0)
    if "cpus" not in fields or (infra.cloud is not None and knows(infra.cloud, name)):
        scope = _scope(fields)
        making.prices.append(PriceRule(scope, price, None, written.source))
        return
    if "accelerator" in fields:
        fields["accelerators"] = f"{_text(fields, 'accelerator')}:{fields.get('accelerator_count', 1)}"
    market = _market(fields)
    fields["spot_price" if market is Market.SPOT else "price"] = fields.pop("price")
    fields.setdefault("memory", "0")
    making.extra += _private_offers(written._replace(fields=fields))


# --- fields ----------------------------------------------------------------------------------------------------------


def _scope(fields: Mapping[str, object]) -> Scope:
    name = _text(fields, "instance_type")
    exact = name is not None and not set(name) & set("*?[")
    return Scope(_infra(fields), name if exact else None, None if exact else _pattern(name), _market(fields))


def _infra(fields: Mapping[str, object]) -> Infra:
    text = _text(fields, "infra")
    try:
        return _parsed_infra(text) if text else Infra()
    except ValueError as error:
        raise _Wrong(str(error)) from None


def _parsed_infra(text: str) -> Infra:
    """As `Infra.parse`, but a place that this version does not know, such as a private cloud, keeps its name."""
    try:
        return Infra.parse(text)
    except ValueError:
        head, *rest = text.strip().split("/")
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,40}", head) or len(rest) > 2 or not all(rest):
            raise
        region, zone = [*(None if part == "*" else part for part in rest), None, None][:2]
        return Infra(head, region, zone)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    """A pattern in which `*` is any text, `?` any character and `[abc]` one of some; `None` where all match."""
    if text is None or text == "*":
        return None
    made = ""
    for piece in re.findall(r"\[!?[^\]]+\]|.", text, re.DOTALL):
        if piece in ("*", "?"):
            made += ".*" if piece == "*" else "."
        elif len(piece) > 1:
            inside = piece[1:-1].replace("\\", r"\\").replace("^", r"\^")
            made += f"[^{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
        else:
            made += re.escape(piece)
    try:
        return re.compile(made, re.DOTALL)
    except re.error as error:
        raise _Wrong(f"found the pattern '{text[:60]}', which cannot be read: {error}") from None


def _market(fields: Mapping[str, object]) -> Market | None:
    text = (_text(fields, "market") or "any").lower()
    if text not in _MARKETS:
        raise _Wrong(f"found the market '{text[:40]}'; allowed: spot, on_demand, any")
    return _MARKETS[text]


def _text(fields: Mapping[str, object], key: str) -> str | None:
    value = fields.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"found {key} = {str(value)[:60]!r}; allowed: a text")
    return value.strip()


def _number(fields: Mapping[str, object], key: str, *, least: float) -> float | None:
    value = fields.get(key)
    if value is None:
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else float("nan")
    except ValueError:
        number = float("nan")
    if not isfinite(number) or number < least:
        raise _Wrong(f"found {key} = {str(value)[:60]!r}; allowed: a number of at least {least:g}")
    return number


def _accelerators(value: object) -> dict[str, float]:
    if value is None:
        return {}
    try:
        asked = parse_accelerators(value)
    except ValueError as error:
        raise _Wrong(f"accelerators: {error}") from None
    if len(asked) != 1 or asked[0].is_filter:
        raise _Wrong(f"found the accelerators {str(value)[:60]!r}; allowed: one kind, like H100:8")
    return {canonical(asked[0].name) or asked[0].name: asked[0].count}


def _memory_of(accelerators: Mapping[str, float]) -> float | None:
    for name in accelerators:
        found = known(name)
        return found.memory_gib if found else None
    return None
