"""The sessions that the benchmarks encode and decode. Flask's tags hold all of them."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup

_WORDS = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fable",
    "grove",
    "hazel",
    "ivory",
    "jade",
    "kite",
    "lotus",
    "maple",
    "north",
    "olive",
    "pearl",
    "quartz",
    "river",
    "slate",
    "thyme",
    "umber",
    "violet",
    "willow",
    "xenon",
    "yarrow",
    "zephyr",
]
_CJK = "漢字仮名交じり文の例として東京都千代田区霞が関一丁目中文繁體簡体한국어문장"
_EMOJI = "😀🎉🚀🌍🍣🦊"


def tiny() -> dict[str, Any]:
    """Somebody who just logged in."""
    return {"_permanent": True, "user_id": 42, "_fresh": True}


def typical() -> dict[str, Any]:
    """A login with every type that Flask's tags know."""
    return {
        "_permanent": True,
        "_fresh": True,
        "user_id": uuid.UUID("12345678-1234-5678-1234-567812345678"),
        "name": "Ada Lovelace",
        "email": "ada@example.org",
        "csrf_token": b"\x8f\x03\xa1\x5c" * 8,
        "logged_in": datetime(2026, 5, 1, 12, 34, 56, tzinfo=UTC),
        "roles": ["admin", "editor", "author"],
        "locale": ("en", "GB"),
        "flashes": [("message", Markup("<b>Welcome</b> back")), ("info", "3 new messages")],
        "cart": {
            "items": [(uuid.UUID(int=7 << 64), 2), (uuid.UUID(int=9 << 64), 1)],
            "total": 59.9,
        },
        "prefs": {"theme": "dark", "per_page": 50, "beta": False, "ratio": 0.75},
        "last_seen": datetime(2026, 5, 2, 8, 0, 1, tzinfo=UTC),
        "referrer": None,
    }


def cart() -> dict[str, Any]:
    """About 20 KB of tagged values."""
    rng = random.Random(1)
    return {
        "user_id": uuid.UUID(int=rng.getrandbits(128)),
        "lines": [
            {
                "id": uuid.UUID(int=rng.getrandbits(128)),
                "name": " ".join(rng.choices(_WORDS, k=3)),
                "quantity": rng.randint(1, 9),
                "price": round(rng.uniform(1, 200), 2),
                "size": (rng.randint(1, 60), rng.randint(1, 60)),
                "note": Markup(f"<i>{rng.choice(_WORDS)}</i>"),
                "added": datetime(2026, 5, rng.randint(1, 28), 9, 30, 5, tzinfo=UTC),
            }
            for _ in range(85)
        ],
    }


def plain() -> dict[str, Any]:
    """About 20 KB that needs no tag."""
    rng = random.Random(2)
    return {
        "results": [
            {
                "id": rng.randint(1, 10**6),
                "title": " ".join(rng.choices(_WORDS, k=4)),
                "score": round(rng.random(), 4),
                "tags": rng.choices(_WORDS, k=3),
                "seen": rng.random() < 0.5,
                "parent": None,
            }
            for _ in range(155)
        ]
    }


def cjk() -> dict[str, Any]:
    """About 10 KB of text beyond ASCII."""
    rng = random.Random(3)
    return {
        f"text{i}": "".join(rng.choices(_CJK, k=95)) + ("".join(rng.choices(_EMOJI, k=4)) * (i % 2))
        for i in range(34)
    }


def varied(count: int = 300) -> list[dict[str, Any]]:
    """Sessions of many users, none like another."""
    rng = random.Random(4)
    sessions = []
    for i in range(count):
        session = typical()
        session["user_id"] = uuid.UUID(int=rng.getrandbits(128))
        session["name"] = " ".join(rng.choices(_WORDS, k=2)).title()
        session["email"] = f"{rng.choice(_WORDS)}{i}@example.org"
        session["csrf_token"] = rng.randbytes(32)
        session["logged_in"] = datetime(2026, 5, rng.randint(1, 28), 1, 2, 3, tzinfo=UTC)
        session["cart"] = {
            "items": [
                (uuid.UUID(int=rng.getrandbits(128)), rng.randint(1, 9))
                for _ in range(rng.randint(0, 6))
            ],
            "total": round(rng.uniform(0, 500), 2),
        }
        session[rng.choice(_WORDS)] = " ".join(rng.choices(_WORDS, k=rng.randint(1, 12)))
        sessions.append(session)
    return sessions


PAYLOADS = {"tiny": tiny, "typical": typical, "cart": cart, "plain": plain, "cjk": cjk}
