"""`python -m sky.sim`: play a seed, soak, shrink a seed that fails, hunt planted bugs. For those who work on sky."""

import argparse
import asyncio
import logging
import sys
import time
from pathlib import Path

from sky.sim import traces
from sky.sim.hunt import hunt, shrink
from sky.sim.markets import Market
from sky.sim.planted import PLANTED
from sky.sim.play import play
from sky.sim.record import Record, asked
from sky.sim.soak import Soak, Tally

#: The last seed of a soak that has no end.
_ENDLESS = 10**12


def main() -> int:
    """The exit code: 1 when an invariant was broken, or a planted bug was not found."""
    options = _arguments()
    # Servers of these worlds complain of what is done to them all the time.
    logging.disable(logging.CRITICAL)
    verbs = {"play": _play, "soak": _soak, "shrink": _shrink, "hunt": _hunt}
    return verbs[options.verb](options)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m sky.sim", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb, help in (("play", "one seed, with its trace"), ("shrink", "the fewest faults with which it fails")):
        one = verbs.add_parser(verb, help=help)
        one.add_argument("seed", type=int)
        one.add_argument("--market", type=Path, help="recorded spot markets: a folder, an archive or a file")
    hunting = verbs.add_parser("hunt", help="find each planted bug")
    hunting.add_argument("--minutes", type=float, default=5.0, help="at most, for each")
    hunting.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
    soaking = verbs.add_parser("soak", help="seed after seed")
    soaking.add_argument("--seeds", type=asked, default=None, help="A..B, or how many (default: without an end)")
    soaking.add_argument("--minutes", type=float, default=None, help="at most (default: 1 if no seeds are named)")
    soaking.add_argument("--jobs", type=int, default=1, help="processes that play (default: 1)")
    soaking.add_argument("--record", type=Path, default=None, help="a file that says what was played, to go on from")
    soaking.add_argument("--planted", choices=sorted(PLANTED), help="with a bug in the code")
    soaking.add_argument("--market", type=Path, help="recorded spot markets: a folder, an archive or a file")
    return parser.parse_args()


def _play(options: argparse.Namespace) -> int:
    outcome = play(options.seed, recorded=_market(options))
    print("\n".join(outcome.trace))
    print(f"{outcome.steps} steps, {outcome.seconds:.0f} s of its own time, digest {outcome.digest}")
    print("\n".join(f"BROKEN: {line}" for line in outcome.broken) or "all invariants hold")
    return 1 if outcome.broken else 0


def _market(options: argparse.Namespace) -> Market | None:
    if options.market is None:
        return None
    found, seed = traces.load(options.market), int(options.seed)
    return found[seed % len(found)]


def _soak(options: argparse.Namespace) -> int:
    first, last = options.seeds or (1, _ENDLESS)
    minutes = options.minutes if options.minutes is not None or options.seeds else 1.0
    record = Record(options.record)
    how = [*(["--planted", options.planted] if options.planted else ())]
    how += ["--market", str(options.market)] if options.market else []
    soak = Soak(record, first, last, lambda line: print(line, flush=True), how)

    async def main() -> Tally:
        return await soak.run(options.jobs, None if minutes is None else minutes * 60)

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print()
    print(f"{soak.tally}; {len(record.held)} on record, {sorted(record.broken)[:20]} broken")
    return 1 if soak.tally.failed else 0


def _shrink(options: argparse.Namespace) -> int:
    for fault in shrink(options.seed, print, _market(options)):
        print(f"{fault.at:8.3f} s: {fault}")
    return 1


def _hunt(options: argparse.Namespace) -> int:
    missed = 0
    for name in PLANTED:
        began = time.perf_counter()
        found = hunt(name, options.first, seconds=options.minutes * 60)
        took = time.perf_counter() - began
        missed += found is None
        what = f"by seed {found.seed}: {found.broken[0][:150]}" if found else "NOT FOUND"
        print(f"{name}: {what} ({took:.1f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
