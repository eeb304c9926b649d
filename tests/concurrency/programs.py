"""What requests do to a session, and programs of two or three requests that do it at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

USER, CART, SPARE = "user", "cart", "spare"

INITIAL = {USER: "ada", CART: ["tea"], SPARE: 0}


@dataclass
class Intent:
    """What a view did to its session, so that a model can do the same to a dict."""

    sets: dict[Any, Any] = field(default_factory=dict)
    deletes: set[Any] = field(default_factory=set)
    clear: bool = False
    regenerate: bool = False
    destroy: bool = False

    def __bool__(self) -> bool:
        return bool(self.sets or self.deletes or self.clear or self.regenerate or self.destroy)

    def apply(self, document: dict[Any, Any]) -> dict[Any, Any]:
        """The document of a session after this."""
        kept = {
            key: value
            for key, value in document.items()
            if key not in self.deletes and not ((self.clear or self.destroy) and key[0] != "_")
        }
        return {**kept, **self.sets}


Stage = Callable[[Any, int], Intent]
"""Changes the session; gets the number of the request, to write a value of its own."""


@dataclass
class Operation:
    """What one request does. Between two stages it calls ``session.save()``."""

    stages: tuple[Stage, ...]
    before: Callable[[Any], Awaitable[Any]] | None = None
    elsewhere: bool = False
    """Whether it comes from another address, where the session must not be used."""
    outside: str = ""
    """Not a request but something that happens to the store: "vanish" or "expire"."""


def read(session: Any, me: int) -> Intent:
    session.get(USER)
    return Intent()


def set_user(session: Any, me: int) -> Intent:
    session[USER] = f"user {me}"
    return Intent(sets={USER: f"user {me}"})


def set_same_value(session: Any, me: int) -> Intent:
    """The value that is there already. Beside a change it counts as written all the same."""
    session[USER] = INITIAL[USER]
    session[f"own {me}"] = me
    return Intent(sets={USER: INITIAL[USER], f"own {me}": me})


def set_own(session: Any, me: int) -> Intent:
    session[f"own {me}"] = me
    return Intent(sets={f"own {me}": me})


def delete_user(session: Any, me: int) -> Intent:
    if USER not in session:
        return Intent()
    del session[USER]
    return Intent(deletes={USER})


def delete_all(session: Any, me: int) -> Intent:
    keys = set(session)
    for key in keys:
        del session[key]
    return Intent(deletes=keys)


def nested(session: Any, me: int) -> Intent:
    if CART not in session:
        return Intent()
    session[CART].append(me)
    return Intent(sets={CART: list(session[CART])})


def clear(session: Any, me: int) -> Intent:
    if not session:
        return Intent()
    session.clear()
    return Intent(clear=True)


def clear_and_refill(session: Any, me: int) -> Intent:
    session.clear()
    session[f"refill {me}"] = me
    return Intent(clear=True, sets={f"refill {me}": me})


def not_permanent(session: Any, me: int) -> Intent:
    if not session or not session.permanent:
        return Intent()
    session.permanent = False
    return Intent(sets={"_permanent": False})


def regenerate(session: Any, me: int) -> Intent:
    if not session:
        return Intent()
    session.regenerate()
    return Intent(regenerate=True)


def login(session: Any, me: int) -> Intent:
    session[USER] = f"login {me}"
    session.regenerate()
    return Intent(regenerate=True, sets={USER: f"login {me}"})


def clean_login(session: Any, me: int) -> Intent:
    session.clear()
    session[USER] = f"login {me}"
    session.regenerate()
    return Intent(regenerate=True, clear=True, sets={USER: f"login {me}"})


def regenerate_and_delete(session: Any, me: int) -> Intent:
    """Keeps one key only, which others may delete."""
    if USER not in session:
        return Intent()
    deletes = set(session) - {USER}
    for key in deletes:
        del session[key]
    session.regenerate()
    return Intent(regenerate=True, deletes=deletes)


def destroy(session: Any, me: int) -> Intent:
    if not session:
        return Intent()
    session.destroy()
    return Intent(destroy=True)


def destroy_and_refill(session: Any, me: int) -> Intent:
    session.destroy()
    session["_flashes"] = [f"bye {me}"]
    return Intent(destroy=True, sets={"_flashes": [f"bye {me}"]})


OPERATIONS = {
    "read": Operation((read,)),
    "refresh": Operation((read,)),
    "set same key": Operation((set_user,)),
    "set same value": Operation((set_same_value,)),
    "set other key": Operation((set_own,)),
    "delete key": Operation((delete_user,)),
    "delete all keys": Operation((delete_all,)),
    "nested change": Operation((nested,)),
    "permanent": Operation((not_permanent,)),
    "save twice": Operation((set_own, nested)),
    "save and destroy": Operation((set_own, destroy)),
    "save and login": Operation((set_own, login)),
    "reload": Operation((set_own,), before=lambda session: session.reload()),
    "clear": Operation((clear,)),
    "clear and refill": Operation((clear_and_refill,)),
    "regenerate": Operation((regenerate,)),
    "login": Operation((login,)),
    "clean login": Operation((clean_login,)),
    "regenerate and delete": Operation((regenerate_and_delete,)),
    "destroy": Operation((destroy,)),
    "destroy and refill": Operation((destroy_and_refill,)),
    "reuse": Operation((set_own,), elsewhere=True),
    "vanish": Operation((), outside="vanish"),
    "expire": Operation((), outside="expire"),
}
"""By name. "refresh" reads a session whose life is due to be extended; "vanish" is a record that is
removed by another hand, "expire" is a clock that passes the end of all lives."""

Program = tuple[str, ...]

PAIRS: list[Program] = [
    pair
    for pair in combinations_with_replacement(OPERATIONS, 2)
    if not all(OPERATIONS[name].outside for name in pair)
]

TRIPLES: list[Program] = [
    ("set other key", "set other key", "set other key"),
    ("set other key", "delete key", "nested change"),
    ("set same key", "set same key", "delete key"),
    ("set other key", "set other key", "regenerate"),
    ("set other key", "set other key", "destroy"),
    ("set other key", "regenerate", "destroy"),
    ("set other key", "regenerate", "vanish"),
    ("set other key", "login", "login"),
    ("read", "set other key", "login"),
    ("read", "nested change", "clear"),
    ("refresh", "regenerate", "destroy"),
    ("refresh", "set other key", "expire"),
    ("refresh", "delete all keys", "set other key"),
    ("delete all keys", "set other key", "vanish"),
    ("delete all keys", "set other key", "clear and refill"),
    ("delete key", "regenerate and delete", "permanent"),
    ("destroy", "destroy and refill", "set other key"),
    ("destroy and refill", "clean login", "read"),
    ("clear", "regenerate", "set other key"),
    ("reload", "regenerate", "set other key"),
]

ALL_TRIPLES: list[Program] = [
    triple
    for triple in combinations_with_replacement(OPERATIONS, 3)
    if sum(bool(OPERATIONS[name].outside) for name in triple) < 2
]


def title(program: Program) -> str:
    return " + ".join(program)
