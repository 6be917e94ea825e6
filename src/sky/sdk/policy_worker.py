"""Asks policies for a server, in a process of its own: `python -P -m sky.sdk.policy_worker`, started by the server.

A policy is code of the administrator's that may take its time, print, or crash; none of that may touch the server. It
works with tasks of the SDK, which the server does not have. One line of JSON in, one line out.
"""

import json
import os
import sys
from typing import Any, TextIO

from sky.core.errors import SkyError, to_wire
from sky.sdk.policies import judge
from sky.wire.policies import Asked


def answer(told: dict[str, Any]) -> dict[str, Any]:
    """The answer to one question: `task` and `config`, or `error` as it crosses the wire."""
    try:
        allowed = judge(told["policy"], Asked(**told["asked"]))
    except (SkyError, ValueError) as refused:
        return {"error": to_wire(refused)}
    return {"task": dict(allowed.task), "config": dict(allowed.config)}


def serve(questions: TextIO, answers: TextIO) -> None:
    """Answer until there are no more questions."""
    for line in questions:
        answers.write(json.dumps(answer(json.loads(line))) + "\n")
        answers.flush()


def main() -> None:
    """Run until the server closes its end."""
    # What a policy prints goes to the server's log; the way back is ours alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
