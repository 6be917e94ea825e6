"""A process that plays seeds for another: a number per line comes in, how it went goes out as a line of JSON.

Started by `soak`, and ended by the end of what comes in, so that none is left behind by a soak that was killed.
"""

import gc
import json
import logging
import signal
import sys
from typing import TextIO

from sky.sim.hunt import shrink
from sky.sim.planted import PLANTED
from sky.sim.play import play


def main(planted: str | None, given: TextIO = sys.stdin, told: TextIO = sys.stdout) -> None:
    """Until there is nothing more to play. `planted` names a bug that is in the code meanwhile."""
    logging.disable(logging.CRITICAL)
    # Who presses Ctrl-C means the soak, and that ends this.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if planted is not None:
        with PLANTED[planted]():
            _play(given, told)
    else:
        _play(given, told)


def _play(given: TextIO, told: TextIO) -> None:
    for line in given:
        outcome = play(int(line))
        faults = [f"{each.at:.3f} s: {each}" for each in shrink(outcome.seed)] if outcome.broken else []
        said = {"seed": outcome.seed, "broken": outcome.broken, "faults": faults, "seconds": outcome.seconds}
        print(json.dumps(said), file=told, flush=True)
        gc.collect(1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
