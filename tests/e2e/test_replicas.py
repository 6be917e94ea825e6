"""Several servers on one database: kill -9 any of them under load, and nothing is lost, doubled or late."""

import http.client
import random
import signal
import threading
import time
from collections.abc import Callable

import pytest
from patience import until
from replica_household import House, Server, moved_in

from sky.engine.duties import BEAT_S
from sky.engine.duties import LEASE_S as DUTY_S
from sky.engine.work import LEASE_S, POLL_S

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

#: Seconds beyond a lease in which what was taken over is done: the work itself, on a busy machine.
WORK_S = 25.0
#: Seconds by which a look may come late on such a machine; without a look, the next lease would have to run out, too.
LATE_S = 8.0
OPEN = "SELECT count(*) FROM requests WHERE status NOT IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"


@pytest.fixture
def house(postgres):
    with moved_in(postgres) as made:
        yield made


def load(house: House, rounds: int, clusters: int = 2) -> tuple[threading.Thread, list[str], list[str]]:
    """People who launch, and run things on what they launched, each on a cluster of their own."""
    marks: list[str] = []
    faults: list[str] = []

    def person(number: int) -> None:
        for turn in range(rounds):
            mark = f"{number}-{turn}"
            script = f"echo {mark} >> {house.root}/ran; sleep 0.2; echo said-{mark}"
            words = ("launch", "-y", "-c", f"c{number}", script) if turn % 2 == 0 else ("exec", f"c{number}", script)
            marks.append(mark)
            try:
                said = house.good(*words)
                if f"said-{mark}" not in said:
                    faults.append(f"{words}: no log: {said}")
            except Exception as failed:
                faults.append(str(failed))

    def people() -> None:
        threads = [threading.Thread(target=person, args=(number,)) for number in range(clusters)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()

    thread = threading.Thread(target=people)
    thread.start()
    return thread, marks, faults


def killer(victims: list[Server], busy: Callable[[], bool], seed: int) -> int:
    """End one server after the other at random moments and start it again; how often."""
    rng, count = random.Random(seed), 0
    while busy() or count < len(victims):
        time.sleep(rng.uniform(0.5, 2.5))
        victim = victims[count % len(victims)]
        victim.kill()
        count += 1
        time.sleep(rng.uniform(0.0, 1.0))
        victim.start()
    return count


def nothing_is_lost_or_doubled(house: House, marks: list[str], faults: list[str]) -> None:
    assert faults == []
    assert house.ran() == sorted(marks)
    until(lambda: house.asks(OPEN) == "0", LEASE_S + WORK_S)
    assert house.asks("SELECT DISTINCT status FROM requests") == "SUCCEEDED"
    # One request for each command that was typed, one job for each request, and one row of the queue.
    assert house.asks("SELECT count(*) FROM requests WHERE name IN ('launch', 'exec')") == str(len(marks))
    assert house.asks("SELECT count(*) FROM jobs") == str(len(marks))
    names = {mark.partition("-")[0] for mark in marks}
    per_name = {name: ["SUCCEEDED"] * sum(mark.startswith(f"{name}-") for mark in marks) for name in names}

    def queues() -> dict[str, list[str]]:
        return {name: [job["status"] for job in house.json("queue", f"c{name}")] for name in names}

    # After each death it is settled anew who listens to a head, and no log waits for that for ever.
    until(lambda: queues() == per_name, LEASE_S + WORK_S)
    assert len(house.json("status")) == len(names)
    assert house.asks("SELECT count(*) FROM clusters") == str(len(names))


@pytest.mark.slow
@pytest.mark.parametrize("roles", [("api", "worker", "worker"), ("all", "all")], ids=["api-and-workers", "two-of-all"])
def test_any_server_may_be_killed_under_load(house, roles):
    servers = [house.add(role) for role in roles]
    people, marks, faults = load(house, rounds=4)
    kills = killer(servers, people.is_alive, seed=len(roles))
    people.join()
    assert faults == []
    assert kills >= len(roles)
    nothing_is_lost_or_doubled(house, marks, faults)


def test_what_a_dead_worker_held_is_taken_over_within_a_lease(house):
    house.add("api")
    first = house.add("worker")
    house.good("launch", "-y", "-c", "c", f"echo before >> {house.root}/ran")
    command = house.begin("exec", "c", f"sleep 2; echo after >> {house.root}/ran; echo well")
    # Held by the only worker there is, whatever it is doing for it just now.
    mine = "SELECT count(*) FROM requests WHERE name = 'exec' AND (lease_until > 0 OR status = 'SUCCEEDED')"
    until(lambda: house.asks(mine) != "0", 60)
    launch = house.begin("launch", "-y", "-c", "d", f"echo d >> {house.root}/ran")
    # On a machine that stands still just now it may be over before anybody looks.
    until(lambda: house.asks(f"{OPEN} AND lease_until > 0") != "0" or launch.poll() is not None, 60)
    first.kill()
    killed = time.monotonic()
    second = house.add("worker")
    assert "well" in house.ended(command)
    house.ended(launch)
    assert time.monotonic() - killed < LEASE_S + WORK_S
    assert house.ran() == ["after", "before", "d"]
    assert "servers work on this database" in second.log


def test_a_dead_server_s_row_is_taken_over_when_its_lease_ends_and_not_before(house):
    house.add("api")
    worker = house.add("worker")
    house.good("launch", "-y", "-c", "c", "true")
    worker.signal(signal.SIGSTOP)
    command = house.begin("exec", "c", f"echo once >> {house.root}/ran; echo well")
    row = "requests WHERE name = 'exec'"
    until(lambda: house.asks(f"SELECT count(*) FROM {row}") == "1", 60)
    # As a server leaves it that dies in the moment in which it has taken the row. Times are the database's.
    clock = "extract(epoch from clock_timestamp())"
    dead = f"SET token = 'dead', lease_until = {clock} + {LEASE_S} WHERE name = 'exec' RETURNING lease_until"
    ends = float(house.asks(f"UPDATE requests {dead}"))
    worker.signal(signal.SIGCONT)
    assert house.asks(f"SELECT lease_until - {clock} <= {LEASE_S} FROM {row}") == "t"
    assert "well" in house.ended(command)
    begun = f"SELECT min(time) FROM stories WHERE kind = 'Begun' AND entity_id = (SELECT id FROM {row})"
    late = float(house.asks(begun)) - ends
    assert 0 <= late <= POLL_S + LATE_S, late


def test_a_worker_that_was_stopped_for_longer_than_its_lease_does_nothing_twice(house):
    house.add("api")
    first, second = house.add("worker"), house.add("worker")
    people, marks, faults = load(house, rounds=4)
    time.sleep(1.0)
    first.signal(signal.SIGSTOP)
    # A stopped server must hold up no other: not with rows, nor with locks.
    people.join()
    until(lambda: house.asks("SELECT count(*) FROM state_values WHERE key LIKE 'duty:worker:%'") == "1", 3 * DUTY_S)
    first.signal(signal.SIGCONT)
    until(lambda: house.asks("SELECT count(*) FROM state_values WHERE key LIKE 'duty:worker:%'") == "2", 10 * BEAT_S)
    house.good("exec", "c0", f"echo 0-last >> {house.root}/ran")
    nothing_is_lost_or_doubled(house, [*marks, "0-last"], faults)
    assert second.process is not None and second.process.poll() is None


def test_the_database_may_be_gone_for_a_while(postgres):
    # A server of its own kind: others of this run must not lose theirs.
    own = type(postgres)()
    try:
        with moved_in(own) as house:
            servers = [house.add("all"), house.add("all")]
            house.good("launch", "-y", "-c", "c", f"echo 0-1 >> {house.root}/ran")
            running = house.begin("exec", "c", f"echo begun; sleep 5; echo 0-2 >> {house.root}/ran; echo well")
            # Its log is being followed by then: what a follower asks the database for next, it can wait for.
            assert running.stdout is not None
            assert any("begun" in line for line in iter(running.stdout.readline, ""))
            own.stop(signal.SIGQUIT)
            own.start()
            assert "well" in house.ended(running)
            own.stop(signal.SIGQUIT)
            refused = house.begin("status")
            said, _ = refused.communicate(timeout=60)
            assert refused.returncode != 0
            assert "cannot be used just now" in said
            assert own.password not in said
            own.start()
            house.good("exec", "c", f"echo 0-3 >> {house.root}/ran")
            assert house.ran() == ["0-1", "0-2", "0-3"]
            for each in servers:
                assert own.password not in each.log
                assert each.process is not None and each.process.poll() is None
    finally:
        own.close()


def test_what_one_server_takes_away_the_others_refuse_within_two_seconds(house):
    for _ in range(2):
        house.add("all")
    made = house.json("users", "token", "create", "ci")

    def answers() -> set[int]:
        """What calls get; their connections are dealt out over both servers."""
        return {status(house.port, made["token"]) for _ in range(16)}

    assert answers() == {200}
    house.good("users", "disable", made["user_name"])
    time.sleep(2.0)
    assert answers() == {401}
    house.good("users", "enable", made["user_name"])
    time.sleep(2.0)
    assert answers() == {200}
    house.good("users", "token", "delete", made["token_id"])
    time.sleep(2.0)
    assert answers() == {401}
    told = house.json("api", "audit")
    assert {"POST /users/service-account-tokens", "POST /users/update"} <= {line["operation"] for line in told}
    assert made["token"] not in str(told)


def status(port: int, token: str) -> int:
    """The status that a call with a token gets, over a connection of its own."""
    call = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        call.request("GET", "/users/role", headers={"Authorization": f"Bearer {token}"})
        return call.getresponse().status
    finally:
        call.close()


def test_behind_pgbouncer(postgres, pgbouncer):
    with moved_in(postgres, pgbouncer) as house:
        servers = [house.add("all"), house.add("worker")]
        people, marks, faults = load(house, rounds=2)
        people.join()
        nothing_is_lost_or_doubled(house, marks, faults)
        # A trial that was late on a busy machine is made again; without the direct address none would ever come back.
        until(lambda: all(each.log.rfind("others arrive") > each.log.rfind("do not arrive") for each in servers), 60)


def test_with_nothing_but_pgbouncer_news_come_by_looking(postgres, pgbouncer):
    with moved_in(postgres) as house:
        house.env["SKYPILOT_DB_CONNECTION_URI"] = postgres.uri(house.database, pgbouncer)
        servers = [house.add("api"), house.add("worker")]
        house.good("launch", "-y", "-c", "c", f"echo 0-1 >> {house.root}/ran")
        assert house.ran() == ["0-1"]
        until(lambda: all("do not arrive" in each.log for each in servers), 30)


def test_uploads_and_talk_without_a_shared_directory(house, s3):
    bucket, env = s3.bucket()
    house.env |= {**env, "SKY_SHARED": f"s3://{bucket}/sky"}
    api, worker = house.add("api"), house.add("worker")
    tree = house.root / "tree"
    tree.mkdir()
    for number in range(50):
        (tree / f"f{number}").write_text(f"content {number % 40}")
    said = house.good("launch", "-y", "-c", "c", "--workdir", str(tree), f"cat f7 f49 >> {house.root}/ran")
    # Said by the one that did it, and read from the other.
    assert "1 node running" in said
    assert (house.root / "ran").read_text() == "content 7content 9"
    assert not any((house.root / "shared" / name).exists() for name in ("blobs", "requests"))
    (id,) = {row["request_id"] for row in house.json("api", "status", "-a") if row["name"] == "launch"}
    assert "1 node running" in house.good("api", "logs", id)
    for each in (api, worker):
        assert "made-up" not in each.log


def test_passwords_and_addresses_are_told_to_nobody(house):
    servers = [house.add("api"), house.add("worker")]
    house.good("launch", "-y", "-c", "c", f"env >> {house.root}/environment; ps axww >> {house.root}/processes")
    told = [(house.root / name).read_text() for name in ("environment", "processes")]
    told += [each.log for each in servers] + [house.good("api", "info"), house.good("events", "c")]
    assert not [text for text in told if house.postgres.password in text]


def test_a_server_that_cannot_have_its_database_says_why(house):
    house.env["SKYPILOT_DB_CONNECTION_URI"] = house.postgres.uri("no_such_database")
    with pytest.raises(AssertionError, match="no_such_database") as told:
        house.add("all")
    assert house.postgres.password not in str(told.value)
    house.env["SKYPILOT_DB_CONNECTION_URI"] = "mysql://somebody:hunter2@somewhere/else"
    with pytest.raises(AssertionError, match="has to be postgresql://") as told:
        house.add("all")
    assert "hunter2" not in str(told.value)
    del house.env["SKYPILOT_DB_CONNECTION_URI"]
    with pytest.raises(AssertionError, match="SKYPILOT_DB_CONNECTION_URI"):
        house.add("worker")
