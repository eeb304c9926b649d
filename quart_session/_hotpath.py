"""Chooses the compiled or the pure arm of the hot path. Nothing else may choose.

``QUART_SESSION_PURE_PYTHON=1`` in the environment chooses the pure arm.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

__all__ = ["COMPILED", "Codec", "is_sid", "new_sid", "sign_sid", "unsign_sid"]

COMPILED = False
"""Whether the compiled arm is in use."""

if TYPE_CHECKING or os.environ.get("QUART_SESSION_PURE_PYTHON", "") not in ("", "0"):
    from quart_session._pure import Codec, is_sid, new_sid, sign_sid, unsign_sid
else:
    try:
        from quart_session._speedups import Codec, is_sid, new_sid, sign_sid, unsign_sid

        COMPILED = True
    except ModuleNotFoundError as error:
        # Only a module that is not there: one that is broken must be heard.
        if error.name != "quart_session._speedups":
            raise
        from quart_session._pure import Codec, is_sid, new_sid, sign_sid, unsign_sid
