"""Requests for static files do no store I/O and set no cookie."""

import functools

import pytest
from quart import Blueprint, Quart, session

pytestmark = pytest.mark.anyio

FOLDERS = ["/static/", "/shop/assets/"]


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "site.css").write_text("body {}")
    return folder


@pytest.fixture
def new_app(folder, tmp_path):
    def new_app(static_url_path="/static"):
        app = Quart(
            __name__,
            static_folder=str(folder),
            static_url_path=static_url_path,
            instance_path=str(tmp_path),
        )
        shop = Blueprint("shop", __name__, static_folder=str(folder), static_url_path="/assets")
        app.register_blueprint(shop, url_prefix="/shop")

        @app.before_request
        async def count():
            session["requests"] = session.get("requests", 0) + 1

        return app

    return new_app


@pytest.fixture
async def site(new_app, new_site):
    site = new_site(new_app())
    await site.visit()
    return site


@pytest.mark.parametrize("path", FOLDERS)
async def test_a_file_costs_nothing(site, path):
    response = await site.visit(path=path + "site.css")
    assert response.status_code == 200
    assert site.store.calls == []
    assert "Set-Cookie" not in response.headers
    assert "Vary" not in response.headers


async def test_304_range_head_and_404_cost_nothing(site):
    response = await site.visit(path="/static/site.css")
    for expected, options in (
        (304, {"headers": {"If-None-Match": response.headers["ETag"]}}),
        (206, {"headers": {"Range": "bytes=0-3"}}),
        (200, {"method": "HEAD"}),
    ):
        response = await site.visit(path="/static/site.css", **options)
        assert response.status_code == expected
        assert site.store.calls == []
    response = await site.visit(path="/static/missing.css")
    assert response.status_code == 404
    assert site.store.calls == []
    assert "Set-Cookie" not in response.headers


async def test_a_change_made_meanwhile_is_logged(site, caplog):
    await site.visit(path="/static/site.css")
    assert "the change is lost" in caplog.text
    assert await site.look() == {"requests": 2}


async def test_stating_the_permanence_is_no_change(site, caplog):
    @site.app.before_request
    async def stay():
        session.permanent = False

    caplog.clear()
    site.app.before_request_funcs[None].pop(0)
    await site.visit(path="/static/site.css")
    assert caplog.messages == []


async def test_a_view_that_is_only_called_static_has_a_session(new_app, new_site):
    app = new_app()
    reports = Blueprint("reports", __name__)

    @reports.route("/reports/static/<name>")
    async def static(name):
        return name

    app.register_blueprint(reports)
    site = new_site(app)
    await site.visit(path="/reports/static/x")
    assert site.store.calls == ["set"]


async def test_static_files_that_the_application_protects_have_a_session(new_app, new_site):
    app = new_app()
    send = app.view_functions["static"]

    @functools.wraps(send)
    async def send_to_ada(**names):
        return await send(**names) if session.get("user") == "ada" else ("who are you?", 403)

    app.view_functions["static"] = send_to_ada
    site = new_site(app)
    assert (await site.visit(path="/static/site.css")).status_code == 403
    await site.visit(lambda session: session.update(user="ada"))
    assert (await site.visit(path="/static/site.css")).status_code == 200


async def test_other_paths_have_a_session(site):
    await site.visit(path="/statics/site.css")
    assert site.store.calls == ["get", "set"]


async def test_a_view_below_the_static_path_has_a_session(new_app, new_site):
    site = new_site(new_app(static_url_path=""))

    @site.app.route("/about")
    async def about():
        return "about"

    await site.visit(path="/site.css")
    assert site.store.calls == []
    await site.visit(path="/about")
    assert site.store.calls == ["set"]


async def test_static_files_have_a_session_where_the_application_wants_it(new_app, new_site):
    site = new_site(new_app(), SESSION_STATIC_FILE=True)
    response = await site.visit(path="/static/site.css")
    assert site.store.calls == ["set"]
    assert "Set-Cookie" in response.headers
