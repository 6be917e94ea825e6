"""What a schedule does as its times come, are missed, or meet a job that still runs; times over clock changes."""

import itertools
from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from sky.core.model.schedules import MOST_WAITING, Missed, Overlap, Schedule, check_schedule_name
from sky.core.policy.schedules import LATE_S, LOOK_S, look_at, tick
from sky.kit.cron import Cron


def every(seconds):
    return (lambda now: now // seconds * seconds), (lambda now: now // seconds * seconds + seconds)


HOURLY = every(3600.0)


def drawn(**more):
    return Schedule("s", "s", "u", "w", "0 * * * *", "UTC", **{"tick_at": 3600.0, "next_at": 3600.0, **more})


def test_nothing_happens_before_its_time():
    after = tick(drawn(), 3599.9, False, *HOURLY)
    assert (after.launching, after.next_at, after.tick_at) == (None, 3600, 3600)


@pytest.mark.parametrize("overlap", list(Overlap))
def test_it_launches_at_its_time(overlap):
    after = tick(drawn(overlap=overlap), 3601.0, False, *HOURLY)
    assert (after.launching, after.tick_at, after.last_at, after.next_at) == (3600, 7200, 3600, 3601.0)
    assert tick(after, 99999.0, False, *HOURLY) is after, "what is decided is carried out first"
    assert look_at(replace(after, launching=None), 3602) == 7200


@pytest.mark.parametrize(("missed", "launched"), [(Missed.SKIP, None), (Missed.ONCE, 10800)])
def test_times_that_no_server_saw(missed, launched):
    after = tick(drawn(missed=missed), 10800.0 + LATE_S + 1, False, *HOURLY)
    assert (after.launching, after.tick_at) == (launched, 14400)
    assert "no server ran" in after.said or launched


def test_a_short_delay_is_none():
    assert tick(drawn(), 3600.0 + LATE_S, False, *HOURLY).launching == 3600


def test_overlaps():
    skip = tick(drawn(overlap=Overlap.SKIP), 3600.0, True, *HOURLY)
    assert (skip.launching, skip.waiting, skip.next_at) == (None, (), 7200) and "has not ended" in skip.said
    assert tick(drawn(overlap=Overlap.ALLOW), 3600.0, True, *HOURLY).launching == 3600
    waits = tick(drawn(overlap=Overlap.QUEUE), 3600.0, True, *HOURLY)
    assert (waits.launching, waits.waiting, waits.next_at) == (None, (3600,), 3600 + LOOK_S)
    both = tick(waits, 7200.0, True, *HOURLY)
    assert both.waiting == (3600, 7200)
    freed = tick(both, 7300.0, False, *HOURLY)
    assert (freed.launching, freed.waiting) == (3600, (7200,))
    last = tick(replace(freed, launching=None), 7305.0, False, *HOURLY)
    assert (last.launching, last.waiting) == (7200, ())


def test_only_so_many_wait():
    full = drawn(overlap=Overlap.QUEUE, waiting=tuple(map(float, range(MOST_WAITING))))
    assert len(tick(full, 3600.0, True, *HOURLY).waiting) == MOST_WAITING


def test_a_paused_one_does_nothing():
    paused = drawn(paused=True, waiting=(1.0,))
    assert tick(paused, 9999.0, False, *HOURLY) is paused
    assert look_at(paused, 0.0) is None


@pytest.mark.parametrize(("missed", "overlap"), list(itertools.product(Missed, Overlap)))
def test_no_time_is_launched_twice_whatever_happens(missed, overlap):
    """Looks at odd moments, with a job that runs now and then: each time at most once, in order."""
    schedule, launched, now = drawn(missed=missed, overlap=overlap), [], 3000.0
    for step in range(400):
        now += (17 * step * step % 5000) + 1
        schedule = tick(schedule, now, step % 3 == 0, *HOURLY)
        if schedule.launching is not None:
            launched.append(schedule.launching)
            schedule = replace(schedule, launching=None)
    assert launched == sorted(set(launched)) and len(launched) > 5
    assert all(at % 3600 == 0 and at <= now for at in launched)


# --- cron ------------------------------------------------------------------------------------------------------------


def moment(text, zone="Europe/Berlin"):
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def test_times_are_of_the_zone_over_clock_changes():
    cron = Cron("0 9 * * *", "Europe/Berlin")
    before, after = moment("2026-03-28T09:00"), moment("2026-03-29T09:00")
    assert cron.following(before) == after and after - before == 23 * 3600
    assert (cron.latest(after), cron.latest(after - 1)) == (after, before)
    assert cron.following(before - 0.5) == before


def test_an_hour_that_comes_twice_has_its_time_once():
    cron = Cron("30 2 * * *", "Europe/Berlin")
    first = cron.following(moment("2026-10-24T12:00"))
    assert cron.following(first) - first > 20 * 3600


@pytest.mark.parametrize("bad", ["", "* * * *", "61 * * * *", "0 0 31 2 *", "x" * 300, "* * * * * * *"])
def test_expressions_that_mean_nothing(bad):
    with pytest.raises(ValueError, match="cron:"):
        Cron(bad)


@pytest.mark.parametrize("zone", ["Mars/Phobos", "", "../../etc/passwd", "Europe"])
def test_zones_that_there_are_not(zone):
    with pytest.raises(ValueError, match="timezone: found"):
        Cron("* * * * *", zone)


@pytest.mark.parametrize("name", ["", "a b", "-x", "x" * 65, "a/b"])
def test_names(name):
    assert check_schedule_name("nightly.1") == "nightly.1"
    with pytest.raises(ValueError, match="name: found"):
        check_schedule_name(name)
