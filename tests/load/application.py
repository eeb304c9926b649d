"""The application under load: it counts each client's requests in the client's own session."""

import os

from quart import Quart, session
from quart_trio import QuartTrio

from quart_session import Session

app = (QuartTrio if "UNDER_TRIO" in os.environ else Quart)(
    __name__, instance_path=os.environ["INSTANCE_PATH"]
)
app.config.from_prefixed_env()
app.secret_key = "a secret key of the tests"
Session(app)


@app.get("/up")
async def up():
    return str(os.getpid())


@app.post("/count/<name>")
async def count(name: str):
    owner = session.setdefault("owner", name)
    session["visits"] = session.get("visits", 0) + 1
    session.setdefault("trail", []).append(session["visits"])
    del session["trail"][:-5]
    return {"owner": owner, "visits": session["visits"], "pid": os.getpid()}
