from itertools import product

import pytest

from jobrunner.lifecycle import FINAL, MOVES, Ending, Event, State, diagram, target

# Written out a second time on purpose: a slip in the table of moves must disagree with something.
ARROWS = {
    (State.QUEUED, Event.CLAIM): State.RUNNING,
    (State.QUEUED, Event.CANCEL): State.CANCELLED,
    (State.RUNNING, Event.SUCCEED): State.SUCCEEDED,
    (State.RUNNING, Event.FAIL): State.FAILED,
    (State.RUNNING, Event.RETRY): State.QUEUED,
    (State.RUNNING, Event.RELEASE): State.QUEUED,
    (State.RUNNING, Event.STOP): State.CANCELLED,
    (State.FAILED, Event.REQUEUE): State.QUEUED,
    (State.CANCELLED, Event.REQUEUE): State.QUEUED,
}


@pytest.mark.parametrize(("state", "event"), [*product(State, Event)])
def test_each_event_leads_from_each_state_where_it_must(state: State, event: Event) -> None:
    assert target(state, event) is ARROWS.get((state, event))


def test_every_event_has_its_move_and_somebody_who_says_so() -> None:
    assert list(MOVES) == list(Event)
    assert all(move.sources and move.says_so for move in MOVES.values())


def test_only_asking_again_leads_out_of_a_final_state() -> None:
    assert {event for state, event in ARROWS if state in FINAL} == {Event.REQUEUE}
    assert {target(state, event) for state, event in product(FINAL, Event)} == {None, State.QUEUED}


def test_what_succeeded_stays() -> None:
    assert [target(State.SUCCEEDED, event) for event in Event] == [None] * len(Event)


def test_every_state_can_be_reached_and_every_state_that_is_not_final_can_be_left() -> None:
    reached, new = set[State](), {State.QUEUED}
    while new:
        reached |= new
        steps = {target(state, event) for state, event in product(new, Event)}
        new = {state for state in steps if state is not None} - reached
    assert reached == set(State)
    assert set(State) - FINAL == {State.QUEUED, State.RUNNING}


def test_the_diagram_shows_the_entry_each_arrow_and_the_ends_and_nothing_else() -> None:
    head, entry, *lines = diagram().split("\n")
    assert head == "stateDiagram-v2"
    assert entry == "    [*] --> queued: submit"
    arrows = {f"    {state} --> {to}: {event}" for (state, event), to in ARROWS.items()}
    ends = {"    succeeded --> [*]", "    failed --> [*]", "    cancelled --> [*]"}
    assert len(lines) == len(set(lines))
    assert set(lines) == arrows | ends


def test_the_words_that_callers_read_are_spelled_as_promised() -> None:
    assert [*State] == ["queued", "running", "succeeded", "failed", "cancelled"]
    kinds = ["exception", "timeout", "memory_limit", "crashed", "lost", "unserializable"]
    assert [*Ending] == ["succeeded", *kinds, "cancelled", "released"]
