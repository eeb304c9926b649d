"""Build the one extension module; everything else is in pyproject.toml.

``QUART_SESSION_NO_EXTENSIONS=1`` builds the pure-Python wheel instead.
"""

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WAY_OUT = """
quart-session could not compile its extension module quart_session._speedups.
It needs a C compiler and the headers of this Python. To install the slower pure-Python
version instead, set QUART_SESSION_NO_EXTENSIONS=1 in the environment and install again.
"""


class BuildOrExplain(build_ext):
    """Fail the build when the compiler fails, and say what can be done."""

    def build_extension(self, ext):
        try:
            super().build_extension(ext)
        except Exception as error:
            raise SystemExit(f"{WAY_OUT}\nThe compiler said: {error}") from error


if os.environ.get("QUART_SESSION_NO_EXTENSIONS", "") not in ("", "0"):
    setup()
else:
    setup(
        ext_modules=[
            Extension(
                "quart_session._speedups",
                ["_speedups/_speedups.pyx"],
                depends=glob("_speedups/*.pxi") + glob("_speedups/*.h"),
            )
        ],
        cmdclass={"build_ext": BuildOrExplain},
    )
