"""So many steps per round of the event loop, in the order in which they were asked for."""

import asyncio

from sky.engine.rounds import Pace


async def test_so_many_per_round_and_in_their_order():
    pace, rounds, done = Pace(3), 0, []

    async def step(number):
        await pace.turn()
        done.append((rounds, number))

    tasks = [asyncio.create_task(step(number)) for number in range(20)]
    while not all(task.done() for task in tasks):
        rounds += 1
        await asyncio.sleep(0)
    assert [number for _, number in done] == list(range(20))
    assert max(sum(at == each for at, _ in done) for each in range(rounds + 1)) <= 3


async def test_who_is_called_off_takes_nobodys_turn():
    pace = Pace(1)
    tasks = [asyncio.create_task(pace.turn()) for _ in range(10)]
    await asyncio.sleep(0)
    gone = next(task for task in tasks if not task.done())
    gone.cancel()
    await asyncio.wait(tasks, timeout=5)
    assert gone.cancelled() and all(task.done() for task in tasks)


async def test_a_pace_that_nobody_asks_rests():
    pace = Pace(2)
    await pace.turn()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not pace._rounds
    await pace.turn()
