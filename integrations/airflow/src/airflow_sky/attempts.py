"""A thread that makes the calls, and a main thread that waits in short steps. Called by the operators.

Airflow ends a task by a signal to its main thread, five seconds before it kills the process; its time limit is a signal
as well. Neither may fall into the middle of a call: so none is made there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

from airflow_sky.runs import Work, order_end

T = TypeVar("T")

#: Seconds between looks at what the thread has done.
STEP_S = 0.1
#: Seconds that calling off may take before Airflow kills the process.
ORDERS_S = 4.0


class CalledOff(Exception):
    """The task was ended from outside; what it had begun is being ended."""


class Attempt:
    """What one process does for one try. `work` is what there is to be called off, as soon as there is any."""

    def __init__(self, serving: Callable[[], Any]) -> None:
        self.work: Work | None = None
        self._serving = serving
        self._called_off = threading.Event()
        self._busy: threading.Thread | None = None

    def act(self, call: Callable[[], T]) -> T:
        """Call in a thread, and give what it gives. Raises what it raised, and CalledOff."""
        result: list[T] = []
        failed: list[BaseException] = []

        def inside() -> None:
            try:
                with self._serving():
                    result.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
                failed.append(error)

        context = copy_context()
        self._busy = threading.Thread(target=context.run, args=(inside,), name="sky", daemon=True)
        self._busy.start()
        while self._busy.is_alive():
            self._busy.join(STEP_S)
            if self._called_off.is_set():
                break
        if self._called_off.is_set():
            raise CalledOff("This task was called off, and so was what it had begun.")
        if failed:
            raise failed[0]
        return result[0]

    def pause(self, seconds: float) -> bool:
        """Wait; False if it was called off meanwhile."""
        return not self._called_off.wait(seconds)

    def note(self, work: Work) -> None:
        """From now on, this is what there is to be called off."""
        self.work = work

    def call_off(self) -> None:
        """Hand the server the orders to end it all, within seconds. May come at any moment, and more than once."""
        self._called_off.set()
        orders = threading.Thread(target=copy_context().run, args=(self._order,), name="sky clean-up")
        orders.start()
        orders.join(ORDERS_S)

    def _order(self) -> None:
        # The call that hands a launch over may be under way: it ends soon, or has brought nothing there.
        until = time.monotonic() + ORDERS_S / 2
        busy = self._busy
        while self.work is None and busy is not None and busy.is_alive() and time.monotonic() < until:
            busy.join(0.05)
        if self.work is not None:
            with self._serving():
                order_end(self.work)
