"""One application and one browser, on every backend."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backends import BACKENDS, make_store
from quart import Quart, Response, session

from quart_session import Session
from quart_session.stores.base import ANY, Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class RecordingStore(Store):
    """Passes every call on and notes its name."""

    trio = True

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.calls: list[str] = []
        self.failure: Exception | None = None
        """What the next calls raise instead of reaching the store."""

    def _note(self, name: str) -> Store:
        self.calls.append(name)
        if self.failure is not None:
            raise self.failure
        return self.inner

    @property
    def backend(self) -> object:
        return self.inner.backend

    async def get(self, key):
        return await self._note("get").get(key)

    async def set(self, key, data, ttl, expected=ANY):
        return await self._note("set").set(key, data, ttl, expected)

    async def delete(self, key, expected=ANY):
        return await self._note("delete").delete(key, expected)

    async def touch(self, key, ttl):
        return await self._note("touch").touch(key, ttl)

    async def close(self):
        await self.inner.close()


class Site:
    """An application whose one view does to the session what the test says."""

    def __init__(self, app: Quart, store: Store) -> None:
        self.app = app
        self.store = RecordingStore(store)
        app.config["SESSION_TYPE"] = self.store
        app.secret_key = app.secret_key or "a secret key of the tests"
        Session(app)
        self.client = app.test_client()
        self.action: Callable[[Any], Any] = lambda session: None

        @app.route("/", defaults={"path": ""}, methods=["GET", "POST"])
        @app.route("/<path:path>", methods=["GET", "POST"])
        async def view(path: str) -> Any:
            result = self.action(session)
            if inspect.isawaitable(result):
                result = await result
            return result if isinstance(result, Response | tuple) else repr(result)

    @property
    def interface(self):
        return self.app.session_interface

    async def visit(
        self, action: Callable[[Any], Any] | None = None, path: str = "/", client=None, **options
    ) -> Response:
        """Send one request whose view calls *action* with the session."""
        self.action = action or (lambda session: None)
        self.store.calls.clear()
        method = options.pop("method", "GET")
        return await (client or self.client).open(path, method=method, **options)

    async def look(self, client=None) -> dict[str, Any]:
        """The session as the next request sees it."""
        seen: dict[str, Any] = {}
        await self.visit(lambda session: seen.update(session), client=client)
        return seen

    def note_errors(self) -> list[Exception]:
        """What is raised from now on, in place of letting Quart raise it."""
        errors: list[Exception] = []

        @self.app.errorhandler(500)
        async def note(error):
            errors.append(error.original_exception)
            return "sorry", 500

        return errors

    async def document(self) -> str | None:
        """The stored document of the browser's session."""
        sid = self.cookie()
        return None if sid is None else await self.interface.get(self.interface.key_prefix + sid)

    def cookie(self) -> str | None:
        """The session id that the browser holds."""
        for cookie in self.client.cookie_jar:
            if cookie.name == "session":
                return cookie.value
        return None


@pytest.fixture(params=BACKENDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path):
    store = make_store(BACKENDS[request.param](request, tmp_path), timeout=5)
    yield store
    await store.close()


@pytest.fixture
def new_site(store: Store, tmp_path: Path):
    """Make a site with the given configuration, each on keys of its own."""

    def new_site(app: Quart | None = None, **config: Any) -> Site:
        app = app or Quart(__name__, instance_path=str(tmp_path))
        app.config["SESSION_KEY_PREFIX"] = f"{uuid.uuid4().hex}:"
        app.config["SESSION_TIMEOUT"] = 5
        app.config.update(config)
        return Site(app, store)

    return new_site


@pytest.fixture
def site(new_site) -> Site:
    return new_site()
