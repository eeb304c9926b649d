"""Some tests have a long form, for which there is no time each time."""

import os

SOAK = os.environ.get("SOAK", "") not in ("", "0")
"""Whether ``SOAK=1`` asks for it."""
