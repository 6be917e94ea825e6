"""What other currencies are worth in USD, by the daily reference rates of the European Central Bank.

Used by the price sources of places that do not sell in USD: the catalog compares USD only. The rates are public, and a
figure that was converted says so by its quality, `DERIVED`.
"""

import re

from sky.core.errors import ProviderDown
from sky.core.ports import PriceAsk, Web
from sky.providers.documents import endpoint, number
from sky.providers.web import shown

_BANK = "https://www.ecb.europa.eu"
_RATE = re.compile(r"<Cube currency=['\"]([A-Z]{3})['\"] rate=['\"]([0-9.]{1,20})['\"]\s*/>")


def usd_per(web: Web, ask: PriceAsk, currency: str) -> float:
    """USD for one unit of `currency`. Raises ProviderDown where the rate is not told, or cannot be true.

    A configured endpoint stands for the bank, too.
    """
    if currency == "USD":
        return 1.0
    url = f"{endpoint(ask, _BANK)}/stats/eurofxref/eurofxref-daily.xml"
    with web.get(url, at_most=2**20) as reply:
        # Found by pattern: a parser of XML has more doors than a table of thirty rates needs.
        told: dict[str, str] = dict(_RATE.findall("\n".join(reply.lines())))
    per_euro: dict[str, float] = {"EUR": 1.0}
    for named, said in told.items():
        if (rate := number(said, 1e6)) is not None:
            per_euro[named] = rate
    dollars, units = per_euro.get("USD"), per_euro.get(currency)
    if dollars is None or units is None or not 0.5 <= dollars <= 2.0:
        raise ProviderDown(f"{shown(url)}: no rate between {currency} and USD in it that can be true")
    return dollars / units
