"""The judge of interleavings finds what is wrong: with sessions that were broken on purpose."""

from __future__ import annotations

import pytest
import rulings
from programs import PAIRS
from scheduling import ACTOR, Schedule, Stuck, explore
from stages import Extending, Unconditional, WithoutMarkers, WithoutRetries, memory_stage

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("quiet")]


async def find(stage, programs, most=None):
    """The kinds of problems in each schedule of *programs*."""
    found = []
    for program in programs:
        async for _, verdict, _ in stage.judge_all(program, most):
            found.append(verdict.kinds)
    return found


def share(found, kinds):
    return sum(bool(kinds & problems) for problems in found) / len(found)


@pytest.mark.parametrize(
    ("write_always", "least"), [(False, 0.2), (True, 0.3)], ids=["if modified", "always"]
)
async def test_writing_without_a_look_loses_updates_and_revives_sessions(
    write_always, least, soak, capsys
):
    stage = memory_stage(False, around=Unconditional, dirty=write_always)
    found = await find(stage, PAIRS if soak else PAIRS[::8])
    lost = share(found, rulings.LOSSES)
    with capsys.disabled():
        way = "always" if write_always else "if modified"
        print(f"\nwrite {way}: {lost:.0%} of {len(found)} schedules lose something")
    assert lost > least
    assert share(found, {rulings.LOST}) > 0.1
    assert share(found, {rulings.REVIVED}) > 0.01
    assert bool(share(found, {rulings.READ_WROTE})) is write_always


@pytest.mark.parametrize(
    ("program", "around", "kind"),
    [
        (("set other key", "set other key"), Unconditional, rulings.LOST),
        (("delete key", "set other key"), Unconditional, rulings.LOST),
        (("set other key", "destroy"), Unconditional, rulings.REVIVED),
        (("set other key", "vanish"), Unconditional, rulings.REVIVED),
        (("nested change", "regenerate"), Unconditional, rulings.REVIVED),
        (("set other key", "reuse"), Unconditional, rulings.REVIVED),
        (("set other key", "login"), WithoutMarkers, rulings.REVIVED),
        (("destroy and refill", "destroy"), WithoutMarkers, rulings.REVIVED),
        (("set other key", "set other key"), WithoutRetries, rulings.LOST),
        (("set other key", "clear"), WithoutRetries, rulings.COOKIE),
        (("regenerate", "set other key"), WithoutRetries, rulings.LEFT_OVER),
        (("read", "set other key"), Extending, rulings.LATER),
        (("read", "refresh"), Extending, rulings.LATER),
        (("read", "destroy"), Extending, rulings.LATER),
    ],
)
async def test_each_kind_of_problem_is_found(program, around, kind):
    """… and none of them where nothing is broken."""
    assert share(await find(memory_stage(False, around), [program]), {kind}) > 0
    assert share(await find(memory_stage(False), [program]), {kind}) == 0


async def test_a_reader_that_writes_is_found():
    found = await find(memory_stage(False, dirty=True), [("read", "read")])
    assert all(rulings.READ_WROTE in problems for problems in found)


class TestScheduler:
    async def test_tries_every_order(self):
        orders = []

        async def run(schedule: Schedule) -> None:
            order = []

            async def work():
                for step in "ab":
                    await schedule.turn()
                    order.append(f"{ACTOR.get()}{step}")

            await schedule.run([work, work])
            orders.append(" ".join(order))

        assert len([schedule async for schedule in explore(run)]) == 6
        assert sorted(set(orders)) == [
            "0a 0b 1a 1b",
            "0a 1a 0b 1b",
            "0a 1a 1b 0b",
            "1a 0a 0b 1b",
            "1a 0a 1b 0b",
            "1a 1b 0a 0b",
        ]

    async def test_a_sample_is_the_same_every_time(self):
        async def traces():
            async def run(schedule: Schedule) -> None:
                async def work():
                    for _ in range(6):
                        await schedule.turn()

                await schedule.run([work, work, work])

            return [schedule.trace() async for schedule in explore(run, most=20, seed=3)]

        first = await traces()
        assert first == await traces()
        assert len(set(first)) > 20

    async def test_requests_that_wait_for_each_other_are_found(self):
        import anyio

        async def run(schedule: Schedule) -> None:
            locks = [anyio.Lock(), anyio.Lock()]

            async def work():
                me = ACTOR.get()
                async with locks[me]:
                    await schedule.turn()
                    async with locks[1 - me]:
                        pass

            await schedule.run([work, work])

        with pytest.raises(Stuck, match="wait for each other"):
            async for _ in explore(run):
                pass

    async def test_a_request_that_never_ends_is_found(self):
        async def run(schedule: Schedule) -> None:
            async def work():
                while True:
                    await schedule.turn()

            await schedule.run([work])

        with pytest.raises(Stuck, match="no end"):
            async for _ in explore(run):
                pass

    async def test_what_a_request_raises_is_raised(self):
        async def run(schedule: Schedule) -> None:
            async def work():
                raise LookupError("oops")

            await schedule.run([work])

        with pytest.raises(LookupError, match="oops"):
            async for _ in explore(run):
                pass
