"""A process that plays seeds for another: a number per line comes in, how it went goes out as a line of JSON.

Started by `soak`, and ended by the end of what comes in, so that none is left behind by a soak that was killed.
"""

import argparse
import gc
import json
import logging
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TextIO

from sky.sim import traces
from sky.sim.hunt import shrink
from sky.sim.planted import PLANTED
from sky.sim.play import play


def main(words: list[str], given: TextIO = sys.stdin, told: TextIO = sys.stdout) -> None:
    """Until there is nothing more to play."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planted", choices=sorted(PLANTED), help="a bug that is in the code meanwhile")
    parser.add_argument("--market", type=Path, help="recorded spot markets")
    options = parser.parse_args(words)
    logging.disable(logging.CRITICAL)
    # Who presses Ctrl-C means the soak, and that ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    markets = traces.load(options.market) if options.market is not None else []
    with PLANTED[options.planted]() if options.planted else nullcontext():
        for line in given:
            seed = int(line)
            market = markets[seed % len(markets)] if markets else None
            outcome = play(seed, recorded=market)
            faults = [f"{each.at:.3f} s: {each}" for each in shrink(seed, recorded=market)] if outcome.broken else []
            said = {"seed": seed, "broken": outcome.broken, "faults": faults, "seconds": outcome.seconds}
            print(json.dumps(said), file=told, flush=True)
            gc.collect(1)


if __name__ == "__main__":
    main(sys.argv[1:])
