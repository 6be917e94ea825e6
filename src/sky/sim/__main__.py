"""`python -m sky.sim`: play a seed, soak, shrink a seed that fails, hunt planted bugs. For those who work on sky."""

import argparse
import logging
import sys
import time

from sky.sim.planted import PLANTED
from sky.sim.play import play
from sky.sim.soak import hunt, shrink, soak


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
        verbs.add_parser(verb, help=help).add_argument("seed", type=int)
    for verb, minutes, help in (("soak", 1.0, "seed after seed"), ("hunt", 5.0, "find each planted bug")):
        one = verbs.add_parser(verb, help=help)
        one.add_argument("--minutes", type=float, default=minutes, help="at most (of a hunt: for each)")
        one.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
        one.add_argument("--seeds", type=int, default=None, help="how many at most")
    return parser.parse_args()


def _play(options: argparse.Namespace) -> int:
    outcome = play(options.seed)
    print("\n".join(outcome.trace))
    print(f"{outcome.steps} steps, {outcome.seconds:.0f} s of its own time, digest {outcome.digest}")
    print("\n".join(f"BROKEN: {line}" for line in outcome.broken) or "all invariants hold")
    return 1 if outcome.broken else 0


def _soak(options: argparse.Namespace) -> int:
    began, count, failed, simulated = time.perf_counter(), 0, [], 0.0
    for outcome in soak(options.first, seconds=options.minutes * 60, seeds=options.seeds):
        count, simulated = count + 1, simulated + outcome.seconds
        if outcome.broken:
            failed.append(outcome.seed)
            print(f"seed {outcome.seed}: {'; '.join(outcome.broken)[:500]}", flush=True)
    took = time.perf_counter() - began
    print(
        f"{count} seeds from {options.first} on in {took:.1f} s, {60 * count / took:.0f} per minute, "
        f"{simulated / 3600:.1f} hours of their own time; {len(failed)} failed: {failed[:20]}"
    )
    return 1 if failed else 0


def _shrink(options: argparse.Namespace) -> int:
    for fault in shrink(options.seed, print):
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
