"""The life of a request."""

from dataclasses import replace

import pytest

from sky.core.lifecycle import requests as life
from sky.core.model.requests import Request
from sky.core.model.statuses import RequestStatus

S = RequestStatus


def request(status: RequestStatus = S.RUNNING, **changes: object) -> Request:
    return replace(Request("r", "launch", "u", status, 1, 0.0, attempts=1), **changes)


def step(before: Request, event: object):
    return life.TABLE.step(before, event, 9.0)


def test_it_is_taken_up_again_after_a_crash():
    after = step(request(), life.Begun())
    assert (after.entity.status, after.entity.attempts, after.orders) == (S.RUNNING, 2, None)


def test_what_kills_its_server_is_ended():
    after = step(request(attempts=life.MOST_ATTEMPTS), life.Begun())
    assert after.entity.status is S.FAILED
    assert after.entity.error["type"] == "RequestInterruptedError"
    assert after.orders == ()


@pytest.mark.parametrize("status", [S.PENDING, S.RUNNING])
def test_cancel_calls_the_work_off(status):
    after = step(request(status), life.CancelAsked())
    assert (after.entity.status, after.orders) == (S.CANCELLED, ())


@pytest.mark.parametrize("status", [S.SUCCEEDED, S.FAILED, S.CANCELLED])
@pytest.mark.parametrize("event", [life.Begun(), life.Finished(1), life.Failed({}), life.CancelAsked()])
def test_over_is_over(status, event):
    assert step(request(status), event).entity == request(status)


def test_what_is_put_down_in_good_order_was_no_attempt():
    running = step(request(S.PENDING, attempts=0), life.Begun()).entity
    for _ in range(2 * life.MOST_ATTEMPTS):
        running = step(step(running, life.PutDown()).entity, life.Begun()).entity
    assert (running.status, running.attempts) == (S.RUNNING, 1)
