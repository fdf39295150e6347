import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobrunner.lifecycle import Ending, Event, State, target
from jobrunner.retry import (
    APART_SECONDS,
    CAP_SECONDS,
    Budgets,
    Verdict,
    backoff_seconds,
    lost_seconds,
    verdict,
)

ENDINGS = st.sampled_from(Ending)
FEW = st.integers(0, 5)
BUDGETS = st.builds(Budgets, FEW, FEW, FEW, FEW)
PAID_BY_RETRIES = [Ending.EXCEPTION, Ending.TIMEOUT]
PAID_BY_CRASH_RETRIES = [Ending.MEMORY_LIMIT, Ending.CRASHED, Ending.LOST]


def longest(_: float, high: float) -> float:
    return high


def events(ending: Ending, *, retries: int = 0, crash_retries: int = 0) -> list[Event]:
    """What becomes of a job each of whose attempts ends like this, until it is not tried again."""
    budgets = Budgets(retries, crash_retries, 0, 0)
    found: list[Event] = []
    while len(found) < 50:
        said = verdict(ending, budgets)
        found.append(said.event)
        if said.event is not Event.RETRY:
            break
        budgets = budgets._replace(
            retries_used=budgets.retries_used + (said.charged == "retries"),
            crash_retries_used=budgets.crash_retries_used + (said.charged == "crash_retries"),
        )
    return found


@given(ENDINGS, BUDGETS, st.booleans())
def test_every_verdict_is_a_move_that_a_running_job_can_make(
    ending: Ending, budgets: Budgets, cancel_requested: bool
) -> None:
    said = verdict(ending, budgets, cancel_requested=cancel_requested)
    assert target(State.RUNNING, said.event) is not None


@given(ENDINGS, BUDGETS, st.booleans())
def test_only_a_retry_is_charged_or_waits(ending: Ending, budgets: Budgets, cancel_requested: bool) -> None:
    said = verdict(ending, budgets, cancel_requested=cancel_requested)
    if said.event is Event.RETRY:
        assert said.charged is not None
    else:
        assert said == Verdict(said.event, charged=None, delay_seconds=0.0)


@given(BUDGETS, st.booleans())
def test_a_result_counts_even_if_somebody_asked_to_cancel(budgets: Budgets, cancel_requested: bool) -> None:
    assert verdict(Ending.SUCCEEDED, budgets, cancel_requested=cancel_requested) == Verdict(Event.SUCCEED)


@given(ENDINGS.filter(lambda ending: ending is not Ending.SUCCEEDED), BUDGETS)
def test_a_wish_to_cancel_wins_over_every_other_end(ending: Ending, budgets: Budgets) -> None:
    assert verdict(ending, budgets, cancel_requested=True) == Verdict(Event.STOP)


@given(BUDGETS)
def test_what_was_stopped_as_asked_is_stopped(budgets: Budgets) -> None:
    assert verdict(Ending.CANCELLED, budgets) == Verdict(Event.STOP)


@given(BUDGETS)
def test_a_value_that_cannot_become_json_is_never_tried_again(budgets: Budgets) -> None:
    assert verdict(Ending.UNSERIALIZABLE, budgets) == Verdict(Event.FAIL)


@given(st.sampled_from(PAID_BY_RETRIES), BUDGETS)
def test_exception_and_timeout_are_tried_again_while_retries_are_left(
    ending: Ending, budgets: Budgets
) -> None:
    said = verdict(ending, budgets)
    if budgets.retries_used < budgets.retries:
        assert (said.event, said.charged) == (Event.RETRY, "retries")
    else:
        assert said == Verdict(Event.FAIL)


@given(st.sampled_from(PAID_BY_CRASH_RETRIES), BUDGETS)
def test_the_death_of_a_process_is_tried_again_while_crash_retries_are_left(
    ending: Ending, budgets: Budgets
) -> None:
    said = verdict(ending, budgets)
    if budgets.crash_retries_used < budgets.crash_retries:
        assert (said.event, said.charged) == (Event.RETRY, "crash_retries")
    else:
        assert said == Verdict(Event.FAIL)


@given(st.sampled_from([*PAID_BY_RETRIES, *PAID_BY_CRASH_RETRIES]), FEW, FEW)
def test_a_job_runs_once_and_then_as_often_as_its_budget_says(
    ending: Ending, retries: int, crash_retries: int
) -> None:
    budget = retries if ending in PAID_BY_RETRIES else crash_retries
    found = events(ending, retries=retries, crash_retries=crash_retries)
    assert found == [Event.RETRY] * budget + [Event.FAIL]


@given(st.integers(1, 5), FEW, FEW, FEW)
def test_a_release_costs_nothing_however_much_is_spent(
    crash_retries: int, retries: int, retries_used: int, crash_retries_used: int
) -> None:
    budgets = Budgets(retries, crash_retries, retries_used, crash_retries_used)
    assert verdict(Ending.RELEASED, budgets) == Verdict(Event.RELEASE)


@pytest.mark.parametrize("ending", [*PAID_BY_CRASH_RETRIES, Ending.RELEASED])
def test_without_crash_retries_no_death_and_no_release_leads_to_a_second_run(ending: Ending) -> None:
    assert verdict(ending, Budgets(5, 0, 0, 0)) == Verdict(Event.FAIL)


@given(st.integers(0, 1), st.integers(2, 5))
def test_a_job_that_was_lost_alone_goes_on_at_once(used: int, budget: int) -> None:
    assert verdict(Ending.LOST, Budgets(0, budget, 0, used), uniform=longest).delay_seconds == 0.0


def test_jobs_that_were_lost_together_go_on_one_after_another() -> None:
    budgets = Budgets(0, 2, 0, 1)
    waits = [verdict(Ending.LOST, budgets, turn=turn).delay_seconds for turn in range(200)]
    assert waits[:4] == [0.0, APART_SECONDS, 2 * APART_SECONDS, 3 * APART_SECONDS]
    assert waits == sorted(waits)
    assert waits[-1] == CAP_SECONDS


def test_a_job_that_is_lost_again_and_again_backs_off() -> None:
    waits = [lost_seconds(used, 0, longest) for used in range(5)]
    assert waits == [0.0, 0.0, *(backoff_seconds(used, longest) for used in (2, 3, 4))]


@dataclass
class Played:
    """A job that runs for ever, in a play of dispatchers that die."""

    starts_at: float
    losses: int = 0


@given(
    st.lists(st.floats(-1000, APART_SECONDS), min_size=1, max_size=40),
    st.floats(0.01, APART_SECONDS - 0.1),
    st.floats(0.1, 10.0),
)
def test_a_job_that_kills_its_dispatcher_soon_costs_no_neighbour_more_than_two_attempts(
    starts: list[float], kills_after: float, restart_seconds: float
) -> None:
    """The poison has the default budget, so it is run three times; a third loss would fail a neighbour too."""
    poison, neighbours = Played(0.0), [Played(start) for start in starts]
    up_at = -1000.0
    while poison.losses < 3:
        died_at = poison.starts_at + kills_after
        running = [one for one in (poison, *neighbours) if one.starts_at < died_at]
        running.sort(key=lambda one: one.starts_at, reverse=True)
        up_at = died_at + restart_seconds
        for turn, one in enumerate(running):
            one.starts_at = up_at + lost_seconds(one.losses, turn)
            one.losses += 1
        for one in neighbours:
            one.starts_at = max(one.starts_at, up_at)  # those that were due while nobody was there
    assert max(one.losses for one in neighbours) <= 2


@given(st.sampled_from([Ending.EXCEPTION, Ending.TIMEOUT, Ending.CRASHED, Ending.MEMORY_LIMIT]), FEW)
def test_each_wait_is_counted_by_the_budget_that_pays_for_it(ending: Ending, used: int) -> None:
    spent = Budgets(10, 10, used, 9) if ending in PAID_BY_RETRIES else Budgets(10, 10, 9, used)
    assert verdict(ending, spent, uniform=longest).delay_seconds == backoff_seconds(used, longest)


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_a_wait_lies_between_nothing_and_the_doubled_and_capped_longest(
    used: int, chance: random.Random
) -> None:
    wait = backoff_seconds(used, chance.uniform)
    assert 0.0 <= wait <= min(CAP_SECONDS, 2**used)


def test_the_longest_wait_doubles_until_the_cap() -> None:
    waits = [backoff_seconds(used, longest) for used in range(12)]
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_the_jitter_is_full_from_nothing_to_the_longest() -> None:
    chance = random.Random(20260101)
    waits = [backoff_seconds(3, chance.uniform) for _ in range(2000)]
    tenths = [sum(tenth * 0.8 <= wait < (tenth + 1) * 0.8 for wait in waits) for tenth in range(10)]
    assert min(tenths) > 140
    assert max(tenths) < 260


def test_two_jobs_that_failed_together_do_not_come_back_together() -> None:
    budgets = Budgets(1, 0, 0, 0)
    assert (
        verdict(Ending.EXCEPTION, budgets).delay_seconds != verdict(Ending.EXCEPTION, budgets).delay_seconds
    )
