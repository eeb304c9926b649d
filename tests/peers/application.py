"""An application that says whom it takes its client for, and whose session it is."""

from quart import Quart, session

from quart_session import Session

app = Quart(__name__)
app.config.from_prefixed_env()  # SESSION_TYPE=memory and what the test wants
Session(app)


@app.get("/")
async def whoami():
    session["visits"] = session.get("visits", 0) + 1
    return {"address": session.addr, "visits": session["visits"]}
