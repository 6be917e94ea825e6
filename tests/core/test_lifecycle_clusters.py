"""The life of a cluster: state in, event, state out; then any sequence of events."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sky.core.lifecycle import clusters as life
from sky.core.model.clusters import Autostop, Cluster, Instance, InstanceState, Phase, Site, Stray
from sky.core.model.offers import Offer, Placement

R, S, PENDING = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.PENDING


def placement(region: str = "r1", type_: str = "t1", *, spot: bool = False, cloud: str = "cloud") -> Placement:
    return Placement(Offer(cloud, region, None, type_, 4, 16, 1.5, use_spot=spot), 2, 4, 16)


def cluster(phase: Phase = Phase.UP, **changes: object) -> Cluster:
    base = Cluster(
        id="c",
        name="c",
        user="u",
        workspace="default",
        phase=phase,
        version=3,
        created_at=0.0,
        status_at=0.0,
        num_nodes=2,
        placement=placement(),
        instances=nodes(R, R),
        ever_up=True,
        intervals=((10.0, None, 3.0),),
    )
    return replace(base, **changes)


def nodes(*states: InstanceState) -> tuple[Instance, ...]:
    return tuple(Instance(f"c-{rank}", "c", rank, state, f"10.0.0.{rank}") for rank, state in enumerate(states))


def step(before: Cluster, event: object, now: float = 100.0):
    return life.TABLE.step(before, event, now)


def test_opening_asks_for_the_best_candidate_and_keeps_the_rest():
    first, second = placement("r1"), placement("r2")
    opened = life.opening(cluster(Phase.PROVISIONING, candidates=(first, second), placement=None))
    assert opened.orders == (life.Provision(first),)
    assert opened.entity.candidates == (second,)


def test_what_is_left_elsewhere_keeps_its_mark_to_itself_and_is_ended_with_every_look():
    stray = Stray(Site("cloud", "r1", "c"), 50.0, 2.0)
    up = cluster(strays=(stray,))
    assert up.site == Site("cloud", "r1", "c") and up.where.count(stray.site) == 2
    assert step(up, life.Due()).orders == (life.Observe(), life.EndStrays())
    assert step(cluster(Phase.BOOTSTRAPPING, strays=(stray,)), life.AgentsReady()).orders[-1] == life.EndStrays()
    again = life.opening(cluster(Phase.PROVISIONING, strays=(stray,), candidates=(placement("r1"),), placement=None))
    assert again.entity.sites == (Site("cloud", "r1", "c-h1"),)
    ended = step(up, life.StraysEnded((stray.site,)), 80.0)
    assert (ended.orders, ended.entity.strays) == (None, ())
    assert ended.entity.intervals == ((50.0, 80.0, 2.0), *up.intervals)
    gone = step(cluster(Phase.TERMINATING, strays=(stray,)), life.NodesTerminated(), 90.0).entity
    assert gone.strays == () and (50.0, 90.0, 2.0) in gone.intervals and stray.site in gone.sites


def test_a_cluster_that_resumes_keeps_its_strays():
    stray = Stray(Site("cloud", "r2", "c-h1"), 50.0, 2.0)
    after = step(cluster(Phase.RESUMING, strays=(stray,)), life.NodesCreated(nodes(R, R)))
    assert after.entity.strays == (stray,)


def test_refusal_moves_to_the_next_candidate_and_is_remembered():
    start = cluster(Phase.PROVISIONING, candidates=(placement("r2"),), ever_up=False)
    after = step(start, life.ProvisionRefused("zone", "none left"))
    assert after.orders == (life.Provision(placement("r2")),)
    assert [each.reason for each in after.entity.refusals] == ["none left"]


def test_refusal_of_a_region_strikes_all_candidates_there():
    start = cluster(Phase.PROVISIONING, candidates=(placement("r1", "t2"), placement("r2")), ever_up=False)
    after = step(start, life.ProvisionRefused("region", "quota"))
    assert after.entity.placement == placement("r2")
    assert after.entity.candidates == ()


def test_last_refusal_ends_the_cluster_with_its_reason():
    after = step(cluster(Phase.PROVISIONING, ever_up=False), life.ProvisionRefused("zone", "none left"))
    assert after.entity.phase is Phase.TERMINATING
    assert "none left" in after.entity.reason
    assert after.orders == (life.TerminateNodes(),)


def test_retry_until_up_waits_and_tries_again():
    start = cluster(Phase.PROVISIONING, retry_until_up=True, ever_up=False)
    after = step(start, life.ProvisionRefused("zone", "none left"))
    assert after.entity.phase is Phase.PROVISIONING
    assert after.orders == (life.Replan(life.RETRY_UNTIL_UP_GAP),)
    again = step(after.entity, life.NotPlanned("no catalog"))
    assert again.orders == (life.Provision(placement()),) and "no catalog" in again.text


def test_retry_until_up_begins_again_with_all_placements():
    first, second, wrong = placement("r1"), placement("r2"), placement("r3")
    asked = cluster(Phase.PROVISIONING, candidates=(first, wrong, second), retry_until_up=True, ever_up=False)
    current = life.opening(asked).entity
    for scope in ("zone", "request", "zone"):
        after = step(current, life.ProvisionRefused(scope, "no"))
        current = after.entity
    again = step(current, life.NotPlanned("no"))
    assert again.orders == (life.Provision(first),)
    assert again.entity.candidates == (second,), "what was wrong with a request stays wrong"


def test_retry_until_up_goes_over_the_places_as_they_are_by_then():
    wrong, new = placement("r3"), placement("r9")
    start = cluster(Phase.PROVISIONING, retry_until_up=True, ever_up=False, placement=wrong, candidates=())
    waits = step(start, life.ProvisionRefused("request", "not like that")).entity
    cheaper = replace(wrong, offer=replace(wrong.offer, price_hourly=0.1))
    after = step(waits, life.Planned((cheaper, new, placement("r1"))))
    assert after.orders == (life.Provision(new),), "what was wrong stays wrong at another price"
    assert after.entity.candidates == (placement("r1"),) and after.entity.rounds == (new, placement("r1"))


def test_what_is_left_of_a_round_is_ended_before_the_next_one_begins():
    start = cluster(Phase.BOOTSTRAPPING, retry_until_up=True, ever_up=False, candidates=(),
                    sites=(Site("cloud", "r1", "c"),))  # fmt: skip
    waits = step(start, life.BootstrapFailed("no agent"))
    assert waits.orders == (life.Replan(life.RETRY_UNTIL_UP_GAP),)
    assert waits.entity.where == (Site("cloud", "r1", "c"),), "on record while nobody asks for more"
    after = step(waits.entity, life.Planned((placement("r2"),)))
    assert after.orders == (life.Provision(placement("r2"), instead_of=Site("cloud", "r1", "c")),)
    assert after.entity.where == (Site("cloud", "r2", "c"), Site("cloud", "r1", "c"))


def test_refusals_of_a_launch_that_goes_on_for_days_do_not_pile_up():
    current = cluster(Phase.PROVISIONING, retry_until_up=True, ever_up=False)
    for number in range(life.REFUSALS_KEPT + 5):
        current = step(current, life.ProvisionRefused("zone", f"no {number}")).entity
    assert len(current.refusals) == life.REFUSALS_KEPT
    assert current.refusals[-1].reason == f"no {life.REFUSALS_KEPT + 4}"


@pytest.mark.parametrize(
    ("phase", "autostop", "then"),
    [
        (Phase.UP, Autostop(), Phase.DEGRADED),
        (Phase.UP, Autostop(5, down=True), Phase.DEGRADED),
        (Phase.DEGRADED, Autostop(), Phase.DEGRADED),
        (Phase.AUTOSTOPPING, Autostop(5), Phase.AUTOSTOPPING),
        (Phase.STOPPED, Autostop(), Phase.STOPPED),
    ],
)
@pytest.mark.parametrize("states", [(PENDING, PENDING), (S, PENDING)])
def test_machines_that_neither_run_nor_stopped_are_not_gone(phase, autostop, then, states):
    """They start, are repaired by their cloud, or are out of reach: nobody ends them for that."""
    after = step(cluster(phase, autostop=autostop), life.NodesObserved(nodes(*states)))
    assert after.entity.phase is then
    assert after.orders in ((), None)


def test_machines_that_run_again_cost_money_again():
    stopped = cluster(Phase.STOPPED, intervals=((10.0, 70.0, 3.0),))
    after = step(stopped, life.NodesObserved(nodes(R, R)), now=90.0)
    assert after.entity.intervals == ((10.0, 70.0, 3.0), (90.0, None, 3.0))


def test_a_stopped_cluster_that_cannot_resume_keeps_its_disk():
    after = step(cluster(Phase.RESUMING), life.ProvisionRefused("zone", "no room"))
    assert after.entity.phase is Phase.STOPPED
    assert after.orders == (life.Observe(),), "some of its machines may run all the same"


def test_a_cluster_that_was_up_is_not_thrown_away_when_its_agent_fails():
    after = step(cluster(Phase.BOOTSTRAPPING), life.BootstrapFailed("no python"))
    assert after.entity.phase is Phase.DEGRADED
    assert after.orders == ()


def test_machines_whose_agent_fails_are_ended_before_the_next_are_made():
    start = cluster(Phase.BOOTSTRAPPING, ever_up=False, candidates=(placement("r2"),), identity="an account")
    after = step(start, life.BootstrapFailed("no python"))
    assert after.orders == (life.Provision(placement("r2"), instead_of=Site("cloud", "r1", "c")),)
    assert (after.entity.phase, after.entity.instances) == (Phase.PROVISIONING, ())
    # Called off before they are ended, it still knows where they are.
    assert set(after.entity.where) == {Site("cloud", "r2", "c"), Site("cloud", "r1", "c")}
    assert after.entity.identity is None, "the next place may be another account's, and must be to be ended"


def test_autostop_is_told_to_the_node_when_it_comes_up():
    waiting = cluster(Phase.BOOTSTRAPPING, autostop=Autostop(5))
    assert step(waiting, life.AgentsReady()).orders == (life.ConfigureAutostop(Autostop(5)),)
    assert step(waiting, life.AgentsReady(Autostop(5))).orders == (), "its head was told on the way"
    assert step(waiting, life.AgentsReady(Autostop(9))).orders == (life.ConfigureAutostop(Autostop(5)),), "of another"


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.TERMINATED])
def test_down_always_terminates(phase):
    after = step(cluster(phase), life.DownAsked())
    assert after.entity.phase is Phase.TERMINATING
    assert after.orders == (life.TerminateNodes(),)


def test_stopping_before_any_machine_leaves_nothing():
    after = step(cluster(Phase.STOPPING, instances=()), life.NodesStopped(()))
    assert after.entity.phase is Phase.TERMINATED


def test_billing_ends_when_the_machines_stop():
    after = step(cluster(Phase.STOPPING), life.NodesStopped(nodes(S, S)), now=70.0)
    assert after.entity.intervals == ((10.0, 70.0, 3.0),)


@pytest.mark.parametrize(
    ("phase", "event"),
    [(Phase.STOPPING, life.NodesStopped(nodes(S, S))), (Phase.AUTOSTOPPING, life.NodesObserved(nodes(S, S)))],
)
def test_autostop_is_off_once_stopped(phase, event):
    """Else a started cluster would stop again before anybody used it."""
    after = step(cluster(phase, autostop=Autostop(0)), event).entity
    assert (after.phase, after.autostop.enabled) == (Phase.STOPPED, False)


def test_terminate_is_tried_again_ever_slower():
    once = step(cluster(Phase.TERMINATING), life.TeardownFailed("busy"))
    twice = step(once.entity, life.TeardownFailed("busy"))
    assert [once.orders, twice.orders] == [(life.TerminateNodes(2.0),), (life.TerminateNodes(4.0),)]


def test_purge_gives_up_and_says_what_may_be_left():
    after = step(cluster(Phase.TERMINATING, purge=True), life.TeardownFailed("busy"))
    assert after.entity.phase is Phase.TERMINATED
    assert "purged" in after.entity.reason


@pytest.mark.parametrize(
    ("states", "autostop", "phase"),
    [
        ((R, R), Autostop(), Phase.UP),
        ((R, S), Autostop(), Phase.DEGRADED),
        ((S, S), Autostop(), Phase.STOPPED),
        ((S, S), Autostop(5), Phase.STOPPED),
        ((S, S), Autostop(5, down=True), Phase.TERMINATING),
        ((), Autostop(), Phase.TERMINATING),
    ],
)
def test_what_is_seen_decides(states, autostop, phase):
    after = step(cluster(autostop=autostop), life.NodesObserved(nodes(*states), agent_answers=True))
    assert after.entity.phase is phase


@pytest.mark.parametrize(
    ("reasons", "told"),
    [
        (("given to another", "given to another"), "its machines are gone: given to another"),
        (("given to another", None), "its machines are gone: rank 0: given to another"),
        ((None, None), "the provider no longer has its machines"),
    ],
)
def test_why_machines_are_gone_is_told_where_the_place_says_it(reasons, told):
    gone = nodes(InstanceState.TERMINATED, InstanceState.TERMINATED)
    seen = tuple(replace(each, reason=reason) for each, reason in zip(gone, reasons, strict=True))
    after = step(cluster(), life.NodesObserved(seen))
    assert (after.entity.phase, after.entity.reason) == (Phase.TERMINATING, told)
    assert step(after.entity, life.NodesTerminated()).entity.reason == told, "and stays on record"


def test_silent_agent_on_running_machines_is_started_again():
    after = step(cluster(), life.NodesObserved(nodes(R, R), agent_answers=False, detail="timeout"))
    assert after.entity.phase is Phase.BOOTSTRAPPING
    assert after.orders == (life.Bootstrap(ran=True),)


@pytest.mark.parametrize(("answers", "orders"), [(None, None), (True, None), (False, (life.Bootstrap(ran=True),))])
def test_a_silent_head_is_started_again_also_where_others_are_lost(answers, orders):
    """A stop that failed has ended the agents: jobs that were there would never be told to have ended."""
    lost = life.NodesObserved(nodes(R, InstanceState.TERMINATED), agent_answers=answers)
    known = step(cluster(phase=Phase.DEGRADED), lost).entity
    assert known.reason == "1 of 2 nodes run: the provider gives no reason"
    after = step(known, lost)
    assert (after.entity.phase, after.orders) == (Phase.DEGRADED, orders)


@pytest.mark.parametrize("phase", [Phase.UP, Phase.TERMINATED])
def test_where_the_sweep_found_machines_is_remembered_for_the_ledger(phase):
    after = step(cluster(phase=phase), life.Swept("machines on gcp", "gcp")).entity
    again = step(after, life.Swept("machines on gcp", "gcp")).entity
    assert (again.swept, step(again, life.Swept("disk d on aws")).entity.swept) == (("gcp",), ("gcp",))


def test_a_look_that_failed_changes_nothing():
    waiting = cluster(reason="autostop not set: busy")
    assert step(waiting, life.LookFailed("odd")).entity == waiting


def test_degraded_heals_when_everything_answers():
    after = step(cluster(Phase.DEGRADED), life.NodesObserved(nodes(R, R), agent_answers=True))
    assert after.entity.phase is Phase.UP


def test_every_state_but_up_carries_a_reason_after_an_observation():
    for states in ((R, S), (S, S), ()):
        after = step(cluster(), life.NodesObserved(nodes(*states)))
        assert after.entity.reason


EVENTS = st.one_of(
    st.builds(life.NodesCreated, st.just(nodes(R, R))),
    st.builds(life.ProvisionRefused, st.sampled_from(["zone", "region", "account", "odd"]), st.just("why")),
    st.builds(life.AgentsReady),
    st.builds(life.BootstrapFailed, st.just("why")),
    st.builds(life.StartAsked, st.booleans()),
    st.builds(life.StopAsked),
    st.builds(life.DownAsked, st.booleans()),
    st.builds(life.AutostopAsked, st.builds(Autostop, st.sampled_from([-1.0, 0.0, 5.0]), st.booleans())),
    st.builds(life.AutostopConfigured),
    st.builds(life.AutostopFailed, st.just("why")),
    st.builds(life.AutostopBegan, st.booleans()),
    st.builds(life.NodesStopped, st.sampled_from([nodes(S, S), ()])),
    st.builds(life.NodesTerminated),
    st.builds(life.TeardownFailed, st.just("why")),
    st.builds(
        life.NodesObserved,
        st.sampled_from([nodes(R, R), nodes(R, S), nodes(S, S), ()]),
        st.sampled_from([True, False, None]),
    ),
    st.builds(life.LookFailed, st.just("why")),
    st.builds(life.AgentSilent, st.just("why")),
    st.builds(life.Due),
    st.builds(life.StraysEnded, st.just((Site("cloud", "r2", "c-h1"),))),
    st.builds(life.Planned, st.sampled_from([(placement("r1"),), ()])),
    st.builds(life.NotPlanned, st.just("why")),
    st.builds(life.NoticeHeard, st.integers(0, 3), st.sampled_from(["terminate", "rebalance", "x"])),
)


@given(st.lists(EVENTS, max_size=30), st.booleans())
def test_any_sequence_keeps_the_promises(events, retry):
    """Whatever arrives in whatever order: no rule breaks, ends stay ends, and machines are never silently forgotten."""
    now = 0.0
    opened = life.opening(
        cluster(
            Phase.PROVISIONING,
            candidates=(placement("r1"), placement("r2"), placement("r3", spot=True)),
            placement=None,
            ever_up=False,
            instances=(),
            intervals=(),
            retry_until_up=retry,
        )
    )
    current, orders = opened.entity, opened.orders or ()
    for event in events:
        now += 1.0
        after = step(current, event, now)
        if current.phase is Phase.TERMINATED:
            assert after.entity == current
        orders = orders if after.orders is None else after.orders
        current = after.entity
        open_intervals = [each for each in current.intervals if each[1] is None]
        assert len(open_intervals) <= 1
        if current.phase in (Phase.STOPPED, Phase.TERMINATED):
            assert not open_intervals, "billing goes on for what does not run"
        if current.phase in (Phase.PROVISIONING, Phase.RESUMING, Phase.BOOTSTRAPPING, Phase.STOPPING):
            assert orders, f"{current.phase} waits for orders and has none"
        if current.phase is Phase.TERMINATING:
            assert any(isinstance(order, life.TerminateNodes) for order in orders)
        if current.phase in (Phase.UP, Phase.DEGRADED, Phase.AUTOSTOPPING, Phase.STOPPED):
            assert life.due_at(current, now) is not None, "nobody would look again"


@pytest.mark.parametrize(
    ("scope", "struck"),
    [
        ("account", ["same", "other_type", "other_region", "spot"]),
        ("region", ["same", "other_type", "spot"]),
        ("zone", ["same", "spot"]),
        ("instance_type", ["same", "other_region"]),
        ("capacity_type", ["same", "other_type"]),
        ("request", ["same"]),
    ],
)
def test_scope_of_a_refusal(scope, struck):
    others = {
        "same": placement(),
        "other_type": placement(type_="t2"),
        "other_region": placement("r2"),
        "spot": placement(spot=True),
        "other_cloud": placement(cloud="else"),
    }
    assert [name for name, each in others.items() if life.condemned(each, placement(), scope)] == struck


def test_machines_that_are_gone_are_ended_all_the_same():
    after = step(cluster(), life.NodesObserved(()))
    assert after.orders == (life.TerminateNodes(),)
    assert all(end is not None for _, end, _ in after.entity.intervals), "what is gone costs nothing from now on"


def test_a_node_that_could_not_be_told_when_to_stop_is_told_again():
    first = step(cluster(autostop=Autostop(5)), life.AutostopFailed("no answer"))
    assert first.orders == (life.Observe(), life.ConfigureAutostop(Autostop(5), life.AUTOSTOP_AGAIN))
    assert step(first.entity, life.AutostopFailed("no answer")).text == ""
    assert step(first.entity, life.AutostopConfigured()).entity.reason is None


def test_a_node_that_ran_before_is_told_that_autostop_is_off():
    assert step(cluster(Phase.BOOTSTRAPPING), life.AgentsReady()).orders == (life.ConfigureAutostop(Autostop()),)


@pytest.mark.parametrize(("down", "order"), [(False, life.StopNodes()), (True, life.TerminateNodes())])
def test_a_cluster_that_does_not_stop_by_itself_is_stopped(down, order):
    hooks = ({"run": "sleep 1", "timeout": 60.0},)
    stopping = cluster(Phase.AUTOSTOPPING, autostop=Autostop(5, down, hooks=hooks), status_at=100.0)
    seen = life.NodesObserved(nodes(R, R))
    overdue = 100.0 + 60.0 + life.AUTOSTOP_OVERDUE
    assert step(stopping, seen, overdue).entity.phase is Phase.AUTOSTOPPING
    assert step(stopping, seen, overdue + 1).orders == (order,)


def test_an_agent_that_never_starts_is_tried_ever_more_rarely():
    broken, waits = cluster(Phase.BOOTSTRAPPING), []
    for _ in range(8):
        broken = step(replace(broken, phase=Phase.BOOTSTRAPPING), life.BootstrapFailed("why")).entity
        waits.append(life.due_at(broken, 0.0))
    assert waits == sorted(waits)
    assert waits[-1] == life.DEGRADED_LOOK_MOST
    assert step(replace(broken, phase=Phase.BOOTSTRAPPING), life.AgentsReady()).entity.strikes == 0


def test_machines_whose_agent_fails_again_and_again_are_not_sought_all_over_the_world():
    start = cluster(
        Phase.BOOTSTRAPPING, ever_up=False, candidates=tuple(placement(f"r{number}") for number in range(2, 9))
    )
    tried = 0
    while start.phase is not Phase.TERMINATING:
        tried += 1
        failed = step(start, life.BootstrapFailed("no python"))
        start = failed.entity
        if start.phase is Phase.PROVISIONING:
            start = replace(start, phase=Phase.BOOTSTRAPPING)
    assert (tried, len(start.refusals)) == (3, 3)
    assert start.where, "what was made last is still there and has to be ended"


def test_a_hedged_cluster_asks_for_several_places_and_forgets_those_it_did_not_get():
    candidates = (placement("r1"), placement("r1", "t2"), placement("r2"), placement("r3"))
    opened = life.opening(cluster(Phase.PROVISIONING, candidates=candidates, placement=None, hedge=2, ever_up=False))
    assert opened.orders == (life.Provision(placement("r1"), beside=(placement("r2"),)),), "each in a place of its own"
    assert [site.mark for site in opened.entity.sites] == ["c", "c-h1"]
    won = life.NodesCreated(nodes(R, R), placement("r2"), opened.entity.sites[1])
    after = step(opened.entity, won).entity
    assert (after.placement, after.where) == (placement("r2"), (Site("cloud", "r2", "c-h1"),))


def test_a_cluster_that_could_not_grow_stays_as_it_was():
    growing = step(cluster(), life.ResizeAsked(4))
    assert (growing.entity.phase, growing.orders) == (Phase.RESIZING, (life.Resize(4),))
    after = step(growing.entity, life.ProvisionRefused("zone", "none left"))
    assert (after.entity.phase, after.entity.num_nodes, after.entity.resize_to) == (Phase.BOOTSTRAPPING, 2, None)
    assert after.orders == (life.Bootstrap(),)


def test_a_grown_cluster_costs_more_from_then_on():
    growing = step(cluster(), life.ResizeAsked(3), now=20.0).entity
    after = step(growing, life.NodesCreated(nodes(R, R, R)), now=30.0).entity
    assert after.intervals == ((10.0, 30.0, 3.0), (30.0, None, 4.5))


def test_what_cannot_be_looked_at_is_shown_as_last_seen_and_says_so():
    unseen = step(cluster(), life.LookFailed("the API is down")).entity
    assert (unseen.phase, unseen.reason) == (Phase.UP, "as last seen; the API is down")
    again = step(unseen, life.NodesObserved(nodes(R, R), agent_answers=True)).entity
    assert (again.phase, again.reason) == (Phase.UP, None)


def test_a_machine_that_its_place_will_take_is_told_of_and_looked_at():
    told = step(cluster(), life.NoticeHeard(1, "terminate", 119.6))
    assert told.orders == (life.Observe(),) and told.entity == cluster()
    assert told.text == "its provider says: the machine of rank 1 is taken away in 120 s"
    assert "likely" in step(cluster(), life.NoticeHeard(0, "rebalance")).text


def test_what_its_place_was_not_told_is_told_again_without_the_head():
    first = step(cluster(autostop=Autostop(5, down=True)), life.AutostopFailed("no answer", heard=True))
    again = life.ConfigureAutostop(Autostop(5, down=True), life.AUTOSTOP_AGAIN, heard=True)
    assert first.orders == (life.Observe(), again)


def test_a_cluster_that_ended_itself_says_so():
    gone = step(cluster(autostop=Autostop(5, down=True)), life.NodesObserved(()))
    assert (gone.entity.phase, gone.entity.reason) == (Phase.TERMINATING, "autodown")
    assert "no longer" in step(cluster(), life.NodesObserved(())).entity.reason
