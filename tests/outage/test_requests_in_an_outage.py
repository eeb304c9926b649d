"""Whole requests while Redis or memcached, or the way to it, fails."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import pytest
from clock import clock
from servers import MemcachedServer, RedisServer, memcached_server
from tcp_proxy import Proxy
from wire import LOAD, SAVE, on

from quart_session import signals
from quart_session.testing import gather

pytestmark = pytest.mark.anyio


FAULTS = ["black hole", "half-open", "refused", "slow", "unplugged"]


class Fault:
    """Something that is wrong until it is mended."""

    def __init__(self, proxy: Proxy, name: str) -> None:
        self.proxy, self.name = proxy, name

    async def begin(self) -> None:
        if self.name == "refused":
            await self.proxy.refuse()
        elif self.name == "slow":
            self.proxy.delay = 1000
        elif self.name == "unplugged":  # new connections are taken, too, and nothing comes
            self.proxy.reset()
            self.proxy.become("black hole")
        else:
            self.proxy.become(self.name)

    def name_after(self, old: str, new: str) -> str:
        """What a record holds after a save that failed: a server that is just slow has written."""
        return new if self.name == "slow" else old

    async def end(self) -> None:
        if self.name == "refused":
            await self.proxy.accept()
        self.proxy.delay = 0
        self.proxy.become("pass")


@pytest.fixture(params=FAULTS)
async def fault(request, proxy):
    return Fault(proxy, request.param)


async def works_within_a_second(site: Any, visitors: dict[str, Any]) -> None:
    """All is well again, for everybody, and the next 100 answers are those to the questions."""
    with anyio.fail_after(30):
        for name, visitor in visitors.items():
            assert (await site.look(visitor))["name"] == name
    assert site.waits[0] < 1

    async def look(name: str) -> None:
        assert (await site.look(visitors[name]))["name"] == name

    names = list(visitors)
    await gather(partial(look, names[n % len(names)]) for n in range(100))


@on("redis", "memcached")
class TestLoad:
    async def test_who_looks_at_the_session_gets_503_in_time(self, site, fault):
        visitor = await site.new_visitor("ada")
        await fault.begin()
        site.waits.clear()
        for _ in range(2):
            assert await site.status(visitor, "/look") == 503
        assert await site.status(visitor, "/count") == 503
        site.in_time(f"load, {fault.name}")
        await fault.end()
        await works_within_a_second(site, {"ada": visitor})
        assert "count" not in await site.look(visitor)

    async def test_who_does_not_look_at_it_is_served(self, site, fault):
        visitor = await site.new_visitor("ada")
        await fault.begin()
        site.waits.clear()
        assert await site.status(visitor, "/plain") == 200
        assert await site.status(site.app.test_client(), "/plain") == 200
        site.in_time(f"no session, {fault.name}")

    async def test_a_crowd_does_not_wait_for_each_other(self, site, fault):
        """64 requests at once share 16 connections."""
        names = [f"visitor {n}" for n in range(64)]
        visitors = {name: await site.new_visitor(name) for name in names}
        await gather(partial(site.look, visitor) for visitor in visitors.values())
        await fault.begin()
        site.waits.clear()

        async def fails(visitor: Any) -> None:
            assert await site.status(visitor, "/look") == 503
            assert await site.status(visitor, "/plain") == 200

        await gather(partial(fails, visitor) for visitor in visitors.values())
        site.in_time(f"64 at once, {fault.name}")
        await fault.end()
        await works_within_a_second(site, visitors)


@on("redis", "memcached")
class TestSave:
    async def test_a_save_that_fails_is_500_in_time(self, site, fault):
        visitor = await site.new_visitor("ada")
        await gather([partial(site.look, visitor)] * 16)  # all connections are there
        site.meanwhile = fault.begin
        site.waits.clear()
        response = await site.do(visitor, lambda session: session.update(name="bob"))
        assert response.status_code == 500
        assert "Set-Cookie" not in response.headers
        site.in_time(f"save, {fault.name}")
        site.meanwhile = None
        await fault.end()
        await works_within_a_second(site, {fault.name_after("ada", "bob"): visitor})

    async def test_a_crowd_of_sessions_is_told_at_once(self, site, fault):
        names = [f"visitor {n}" for n in range(64)]
        visitors = {name: await site.new_visitor(name) for name in names}
        arrived = 0

        async def begin_when_all_are_there() -> None:
            nonlocal arrived
            arrived += 1
            if arrived == len(names):
                await fault.begin()
                site.since = clock()
                everybody.set()
            await everybody.wait()

        everybody = anyio.Event()
        site.meanwhile = begin_when_all_are_there
        site.act = lambda session: session.update(name="new")
        site.waits.clear()

        async def fails(visitor: Any) -> None:
            assert await site.status(visitor, "/act") == 500

        await gather(partial(fails, visitor) for visitor in visitors.values())
        site.in_time(f"64 saves at once, {fault.name}")
        site.meanwhile = None
        await fault.end()
        # Of a slow server, those who got none of the 16 connections wrote nothing.
        for name, visitor in visitors.items():
            assert (await site.look(visitor))["name"] in (name, fault.name_after(name, "new"))

    async def test_a_crowd_of_one_session_is_told_at_once(self, site, proxy):
        """Saves of one session queue, but not for a backend that is silent."""
        fault = Fault(proxy, "black hole")
        visitor = await site.new_visitor("ada")
        arrived = 0

        async def begin_when_all_are_there() -> None:
            nonlocal arrived
            arrived += 1
            if arrived == 10:
                await fault.begin()
                site.since = clock()
                everybody.set()
            await everybody.wait()

        everybody = anyio.Event()
        site.meanwhile = begin_when_all_are_there
        site.act = lambda session: session.update(name="nobody")
        site.waits.clear()

        async def fails() -> None:
            assert await site.status(visitor, "/act") == 500

        await gather([fails] * 10)
        site.in_time(f"10 saves of one session, {fault.name}")
        site.meanwhile = None
        await fault.end()
        await works_within_a_second(site, {"ada": visitor})


@on("redis", "memcached")
class TestBrokenConnections:
    async def test_connections_that_broke_are_not_noticed(self, site, proxy):
        names = [f"visitor {n}" for n in range(32)]
        visitors = {name: await site.new_visitor(name) for name in names}
        await gather(partial(site.look, visitor) for visitor in visitors.values())
        proxy.reset()
        await gather(partial(site.status, visitor, "/count") for visitor in visitors.values())
        for visitor in visitors.values():
            assert (await site.look(visitor))["count"] == 1

    @pytest.mark.parametrize("passing", [0, 1, 20], ids=["no reply", "a byte", "half a reply"])
    async def test_a_lost_reply_to_a_load_is_asked_for_again(self, site, proxy, passing):
        visitor = await site.new_visitor("ada")
        proxy.lose_reply(LOAD[proxy.scheme], passing)
        assert (await site.look(visitor))["name"] == "ada"
        assert proxy.replies_lost == 1

    @pytest.mark.parametrize("passing", [0, 1], ids=["no reply", "a byte"])
    @pytest.mark.parametrize("what", ["create", "update", "regenerate", "destroy", "start over"])
    async def test_a_save_whose_reply_is_lost_is_recognised(self, site, proxy, what, passing):
        visitor = await site.new_visitor("ada") if what != "create" else site.app.test_client()
        created, dropped = [], []

        def start_over(session: Any) -> None:
            session.destroy()
            session["name"] = "bob"

        act, after = {
            "create": (lambda session: session.update(name="bob"), "bob"),
            "update": (lambda session: session.update(name="bob"), "bob"),
            "regenerate": (lambda session: session.regenerate(), "ada"),
            "destroy": (lambda session: session.destroy(), None),
            "start over": (start_over, "bob"),
        }[what]
        await site.look(await site.new_visitor("somebody"))  # the server knows the scripts
        # Regenerating writes twice: the new record, then the end of the old one.
        for skipped in range(2 if what in ("regenerate", "start over") else 1):

            async def break_the_next(skipped: int = skipped) -> None:
                proxy.lose_reply(SAVE[proxy.scheme], passing, skip=skipped)

            site.meanwhile = break_the_next
            with (
                signals.session_created.connected_to(lambda *a, **k: created.append(k)),
                signals.session_write_dropped.connected_to(lambda *a, **k: dropped.append(k)),
            ):
                response = await site.do(visitor, act)
            assert response.status_code == 200
            assert proxy.replies_lost == skipped + 1
            assert dropped == []
            assert (await site.look(visitor)).get("name") == after
        if what == "destroy":
            assert not visitor.cookie_jar

    async def test_connections_that_break_all_the_time_mix_nothing_up(self, site, proxy):
        names = [f"visitor {n}" for n in range(24)]
        visitors = {name: await site.new_visitor(name) for name in names}
        confirmed = dict.fromkeys(names, 0)
        refused = dict.fromkeys(names, 0)
        site.waits.clear()

        async def come_again(name: str) -> None:
            for _ in range(40):
                response = await site.visit(visitors[name], "/count")
                if response.status_code == 200:
                    confirmed[name] += 1
                    assert (await response.get_json())["name"] == name
                else:
                    refused[name] += 1

        async def interfere() -> None:
            dice = random.Random(20)
            while True:
                match dice.randrange(4):
                    case 0:
                        proxy.reset()
                    case 1:
                        proxy.lose_reply(LOAD[proxy.scheme], passing=dice.randrange(12))
                    case 2:
                        proxy.become(dice.choice(["black hole", "half-open"]))
                    case 3:
                        await proxy.refuse()
                        await anyio.sleep(0.02)
                        await proxy.accept()
                await anyio.sleep(dice.uniform(0.001, 0.1))
                proxy.become("pass")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(interfere)
            await gather(partial(come_again, name) for name in names)
            tasks.cancel_scope.cancel()
        if proxy.refuses:
            await proxy.accept()
        proxy.become("pass")
        # A load and a save may each take the whole timeout.
        site.in_time("all kinds of faults", margin=1.5)
        print(f"{sum(confirmed.values())} confirmed, {sum(refused.values())} refused")
        await works_within_a_second(site, visitors)
        for name in names:
            count = (await site.look(visitors[name])).get("count", 0)
            assert confirmed[name] <= count <= confirmed[name] + refused[name]


@on("redis")
class TestCrash:
    """Redis is killed with SIGKILL; it has on disk what it confirmed."""

    @pytest.fixture
    async def proxy(self, server: RedisServer, backend: str):
        async with Proxy(server.port, backend) as proxy:
            yield proxy

    async def test_a_restarted_server_is_found_again(self, site, server):
        names = [f"visitor {n}" for n in range(20)]
        visitors = {name: await site.new_visitor(name) for name in names}
        server.stop(kill=True)
        site.waits.clear()
        for visitor in visitors.values():
            assert await site.status(visitor, "/look") == 503
            assert await site.status(visitor, "/plain") == 200
        site.in_time("killed")
        server.start()
        await works_within_a_second(site, visitors)

    @pytest.mark.parametrize("what", ["create", "update", "regenerate", "destroy"])
    async def test_killed_between_the_write_and_its_reply(self, site, server, proxy, what):
        visitor = await site.new_visitor("ada") if what != "create" else site.app.test_client()
        other = await site.new_visitor("somebody else")
        await site.look(other)

        async def kill() -> None:
            server.stop(kill=True)

        async def kill_at_the_next_write() -> None:
            proxy.lose_reply(SAVE[proxy.scheme], then=kill)

        site.meanwhile = kill_at_the_next_write
        site.waits.clear()
        act = {
            "create": lambda session: session.update(name="bob"),
            "update": lambda session: session.update(name="bob"),
            "regenerate": lambda session: session.regenerate(),
            "destroy": lambda session: session.destroy(),
        }[what]
        response = await site.do(visitor, act)
        assert response.status_code == 500
        assert "Set-Cookie" not in response.headers
        assert proxy.replies_lost == 1
        site.in_time(f"killed while it wrote, {what}")
        site.meanwhile = None
        server.start()
        await works_within_a_second(site, {"somebody else": other})
        # The write had happened; what the browser was not told of is not its own.
        after = {"create": None, "update": "bob", "regenerate": "ada", "destroy": None}[what]
        assert (await site.look(visitor)).get("name") == after
        assert (
            await site.do(visitor, lambda session: session.update(name="eve"))
        ).status_code == 200
        if what != "destroy":  # the browser still has the word that was just ended
            assert (await site.look(visitor))["name"] == "eve"

    async def test_killed_before_the_write(self, site, server):
        visitor = await site.new_visitor("ada")

        async def kill() -> None:
            server.stop(kill=True)

        site.meanwhile = kill
        response = await site.do(visitor, lambda session: session.update(name="bob"))
        assert response.status_code == 500
        site.meanwhile = None
        server.start()
        await works_within_a_second(site, {"ada": visitor})


@on("memcached")
class TestLoss:
    """memcached is killed with SIGKILL, and what it had is gone."""

    @pytest.fixture
    def server(self):
        with memcached_server() as server:
            yield server

    @pytest.fixture
    async def proxy(self, server: MemcachedServer, backend: str):
        async with Proxy(server.port, backend) as proxy:
            yield proxy

    async def test_everybody_is_logged_out_and_nobody_mixed_up(self, site, server):
        names = [f"visitor {n}" for n in range(20)]
        visitors = {name: await site.new_visitor(name) for name in names}
        server.stop(kill=True)
        site.waits.clear()
        for visitor in visitors.values():
            assert await site.status(visitor, "/look") == 503
            assert await site.status(visitor, "/plain") == 200
        site.in_time("killed")
        server.start()
        for visitor in visitors.values():
            assert await site.look(visitor) == {"available": True}
        for name, visitor in visitors.items():
            assert await site.status(visitor, f"/name/{name}") == 200
        await works_within_a_second(site, visitors)

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.update(name="bob"),
            lambda session: session.regenerate(),
            lambda session: session.destroy(),
        ],
        ids=["update", "regenerate", "destroy"],
    )
    async def test_a_save_brings_no_session_back(self, site, server, act):
        visitor = await site.new_visitor("ada")

        async def restart() -> None:
            server.stop(kill=True)
            server.start()

        site.meanwhile = restart
        with signals.session_saved.connected_to(lambda *a, **k: pytest.fail("it was saved")):
            response = await site.do(visitor, act)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        site.meanwhile = None
        assert await site.look(visitor) == {"available": True}

    @pytest.mark.parametrize("what", ["create", "update", "regenerate", "destroy"])
    async def test_killed_between_the_write_and_its_reply(self, site, server, proxy, what):
        visitor = await site.new_visitor("ada") if what != "create" else site.app.test_client()

        async def kill() -> None:
            server.stop(kill=True)

        async def kill_at_the_next_write() -> None:
            proxy.lose_reply(SAVE[proxy.scheme], then=kill)

        site.meanwhile = kill_at_the_next_write
        site.waits.clear()
        act = {
            "create": lambda session: session.update(name="bob"),
            "update": lambda session: session.update(name="bob"),
            "regenerate": lambda session: session.regenerate(),
            "destroy": lambda session: session.destroy(),
        }[what]
        response = await site.do(visitor, act)
        assert response.status_code == 500
        assert "Set-Cookie" not in response.headers
        assert proxy.replies_lost == 1
        site.in_time(f"killed while it wrote, {what}")
        site.meanwhile = None
        server.start()
        assert await site.look(visitor) == {"available": True}
        await site.status(visitor, "/name/eve")
        await works_within_a_second(site, {"eve": visitor})


@on("redis", "memcached")
class TestAnonymous:
    """``SESSION_ON_OUTAGE = "anonymous"``: the site stays open, and nobody is known."""

    @pytest.fixture
    def site(self, new_site, proxy):
        return new_site(
            SESSION_TYPE=proxy.scheme, SESSION_URI=proxy.url, SESSION_ON_OUTAGE="anonymous"
        )

    async def test_the_session_is_empty_and_says_so(self, site, fault, caplog):
        visitor = await site.new_visitor("ada")
        assert (await site.look(visitor))["available"] is True
        await fault.begin()
        site.waits.clear()
        caplog.clear()
        assert await site.look(visitor) == {"available": False}
        assert "The session is unavailable" in caplog.text
        site.in_time(f"anonymous, {fault.name}")

    @pytest.mark.parametrize(
        "act",
        [
            lambda session: session.update(name="eve"),
            lambda session: session.clear(),
            lambda session: session.destroy(),
            lambda session: session.regenerate(),
            lambda session: session.dirty(),
        ],
        ids=["update", "clear", "destroy", "regenerate", "dirty"],
    )
    @pytest.mark.parametrize("back_before_the_save", [False, True], ids=["down", "back"])
    async def test_it_never_overwrites_or_deletes(
        self, site, new_site, proxy, act: Callable[[Any], object], back_before_the_save
    ):
        visitor = await site.new_visitor("ada")
        await site.look(visitor)

        [cookie] = visitor.cookie_jar

        async def stored() -> object:
            """What lies behind the proxy."""
            direct = proxy.url.replace(str(proxy.port), str(proxy.target))
            store = new_site(SESSION_TYPE=proxy.scheme, SESSION_URI=direct).interface.store
            [key] = site.interface.records.keys_of(cookie.value)
            return (await store.get(key)).data

        before = await stored()
        await proxy.refuse()
        site.meanwhile = proxy.accept if back_before_the_save else None
        response = await site.do(visitor, act)
        assert response.status_code == 200
        assert "Set-Cookie" not in response.headers
        site.meanwhile = None
        if not back_before_the_save:
            await proxy.accept()
        assert await stored() == before
        await works_within_a_second(site, {"ada": visitor})
