"""`python -m sky.sim`: play seeds, soak, shrink a seed that fails. For those who work on the control plane."""

import argparse
import logging
import sys
import time

from sky.sim.world import play


def main() -> int:
    """The exit code: 1 when an invariant was broken."""
    parser = argparse.ArgumentParser(prog="python -m sky.sim", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("play", help="one seed, with its trace")
    one.add_argument("seed", type=int)
    soak = verbs.add_parser("soak", help="seed after seed")
    soak.add_argument("--minutes", type=float, default=1.0)
    soak.add_argument("--from", dest="first", type=int, default=1)
    soak.add_argument("--seeds", type=int, default=None)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if options.verb == "play":
        outcome = play(options.seed)
        print("\n".join(outcome.trace))
        print(outcome)
        return 1 if outcome.broken else 0
    began, seed, failed = time.perf_counter(), options.first, []
    while time.perf_counter() - began < options.minutes * 60 and (options.seeds is None or seed < options.first + options.seeds):
        outcome = play(seed)
        if outcome.broken:
            failed.append(seed)
            print(f"seed {seed}: {'; '.join(outcome.broken)[:300]}", flush=True)
        seed += 1
    took, count = time.perf_counter() - began, seed - options.first
    print(f"{count} seeds in {took:.1f} s: {60 * count / took:.0f} per minute; {len(failed)} failed: {failed[:20]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
