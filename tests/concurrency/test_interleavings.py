"""Two or three requests of one browser at once, in every order of their calls of the store.

Each order is judged by a model; see :class:`rulings.Judge` for what it holds against it: updates
that are lost, ended sessions that come back, reads that write, cookies that nobody should have got,
deadlines that move, records that are not whole or that nobody will ever ask for again, and requests
that wait for each other or never end.

Requests of one process queue for a session; those of several processes meet in the store only.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations_with_replacement

import pytest
from backends import BACKENDS, BETWEEN_PROCESSES, UNDER_LOAD
from long_form import SOAK
from programs import ALL_TRIPLES, OPERATIONS, PAIRS, TRIPLES, Program, title
from stages import memory_stage, shared_stage

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]

processes = pytest.mark.parametrize("one_process", [True, False], ids=["one process", "several"])

BY_FIRST: dict[str, list[Program]] = defaultdict(list)
for pair in PAIRS:
    BY_FIRST[pair[0]].append(pair)


def test_there_are_enough_programs():
    assert len(PAIRS) >= 70
    assert all(len(program) == 3 for program in TRIPLES)


@processes
@pytest.mark.parametrize("first", BY_FIRST)
async def test_two_requests_in_every_order(one_process, first, tally):
    stage = memory_stage(one_process)
    for program in BY_FIRST[first]:
        await stage.check(program)
    tally(stage.title, stage.schedules)


@processes
@pytest.mark.parametrize("program", TRIPLES, ids=title)
async def test_three_requests(one_process, program, soak, tally):
    stage = memory_stage(one_process)
    await stage.check(program, most=None if soak else 8)
    tally(stage.title, stage.schedules)


@processes
@pytest.mark.parametrize("backend", BETWEEN_PROCESSES)
async def test_two_requests_on_a_shared_store(backend, one_process, soak, request, tmp_path, tally):
    programs = [
        program for program in PAIRS if not any(OPERATIONS[n].outside == "expire" for n in program)
    ]
    assert len(programs) >= 70
    async with shared_stage(one_process, BACKENDS[backend](request, tmp_path)) as stage:
        for seed, program in enumerate(programs):
            await stage.check(program, most=None if soak else 1, seed=seed)
        tally(stage.title, stage.schedules)


VERSION_3 = [
    "read",
    "set other key",
    "set same key",
    "delete key",
    "delete all keys",
    "nested change",
    "regenerate",
    "destroy",
]


@processes
@pytest.mark.parametrize("first", VERSION_3)
async def test_two_requests_of_a_session_of_version_3(one_process, first, tally):
    """The first save moves it to another key."""
    stage = memory_stage(one_process, version_3=True)
    for second in VERSION_3[VERSION_3.index(first) :]:
        await stage.check((first, second))
    tally(stage.title, stage.schedules)


@processes
async def test_three_requests_of_a_session_of_version_3(one_process, soak, tally):
    stage = memory_stage(one_process, version_3=True)
    names = [name for name in VERSION_3 if name not in ("delete all keys", "nested change")]
    for seed, program in enumerate(combinations_with_replacement(names, 3)):
        if soak or seed % 4 == 0:
            await stage.check(program, most=500 if soak else 3, seed=seed)
    tally(stage.title, stage.schedules)


RENEWING = [*VERSION_3, "clear", "reload"]


@processes
@pytest.mark.parametrize("first", RENEWING)
async def test_two_requests_of_a_session_that_is_renewed(one_process, first, tally):
    """Both find it old enough for a new id; one gives it, and the other one follows."""
    stage = memory_stage(one_process, renewal=True)
    for second in RENEWING[RENEWING.index(first) :]:
        await stage.check((first, second))
    tally(stage.title, stage.schedules)


@processes
async def test_three_requests_of_a_session_that_is_renewed(one_process, soak, tally):
    stage = memory_stage(one_process, renewal=True)
    names = ["read", "set other key", "nested change", "regenerate", "destroy"]
    for seed, program in enumerate(combinations_with_replacement(names, 3)):
        await stage.check(program, most=500 if soak else 5, seed=seed)
    tally(stage.title, stage.schedules)


if SOAK:

    @processes
    @pytest.mark.parametrize("first", OPERATIONS)
    async def test_any_three_requests(one_process, first, tally):
        stage = memory_stage(one_process)
        for seed, program in enumerate(ALL_TRIPLES):
            if program[0] == first:
                await stage.check(program, most=100, seed=seed)
        tally(stage.title, stage.schedules)

    @processes
    @pytest.mark.parametrize("backend", UNDER_LOAD)
    async def test_any_three_requests_on_a_shared_store(
        backend, one_process, request, tmp_path, tally
    ):
        async with shared_stage(one_process, BACKENDS[backend](request, tmp_path)) as stage:
            for seed, program in enumerate(ALL_TRIPLES):
                if not any(OPERATIONS[name].outside == "expire" for name in program):
                    await stage.check(program, most=5, seed=seed)
            tally(stage.title, stage.schedules)
