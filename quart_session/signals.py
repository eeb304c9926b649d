"""What happens to sessions, as signals of `blinker <https://blinker.readthedocs.io>`_.

The sender is the application. Every signal carries ``fingerprint``, which names a session in logs
and metrics without being its id. Receivers may be async.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

session_created = _signals.signal("session-created")
"""A new session was stored."""

session_loaded = _signals.signal("session-loaded")
"""A request found its session."""

session_saved = _signals.signal("session-saved")
"""A session was written, a new one as well."""

session_regenerated = _signals.signal("session-regenerated")
"""A session got a new id; ``old_fingerprint`` is the one it had."""

session_destroyed = _signals.signal("session-destroyed")
"""A session's record was removed: it was destroyed, cleared or emptied."""

session_address_changed = _signals.signal("session-address-changed")
"""A session was used from another address than its own; ``address`` is that one, and ``mode`` what
``SESSION_PROTECTION`` did about it: "delete", "reject" or "log"."""

session_revoked = _signals.signal("session-revoked")
"""A user's session was ended from outside of it; ``user_id`` is the user, as text."""

session_conflict = _signals.signal("session-conflict")
"""Another request had changed the session; both changes are merged and the save is tried again."""

session_write_dropped = _signals.signal("session-write-dropped")
"""A request's changes are lost, because the session was destroyed while the request ran."""
