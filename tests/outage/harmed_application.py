"""An application on SQLite whose disk is harmed, in a process of its own.

The process loses rights that the tests need. Arguments: the folder, what happens to it, and the
paths that are visited then.
"""

import json
import os
import resource
import sys
from pathlib import Path

import anyio
from conftest import Site
from quart import Quart


async def make_read_only(site, visitor, folder):
    await site.interface.close()
    for file in folder.iterdir():
        file.chmod(0o444)
    if os.geteuid() == 0:  # whom modes do not stop
        os.setgroups([])
        os.setuid(65534)


async def fill_up(site, visitor, folder):
    """Leave room for small records only, and try a large one."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    response = await site.do(visitor, lambda session: session.update(ballast="b" * 200_000))
    assert response.status_code == 500
    assert "Set-Cookie" not in response.headers


async def leave_no_room(site, visitor, folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))


async def main(folder, harm, *paths):
    site = Site(Quart, Path(folder), SESSION_TYPE="sqlite", SESSION_TIMEOUT=10)
    visitor = await site.new_visitor("ada")
    await globals()[harm](site, visitor, Path(folder))
    answers = [await site.status(visitor, path) for path in paths]
    print(json.dumps({"answers": answers, "look": await site.look(visitor)}))
    await site.interface.close()


anyio.run(main, *sys.argv[1:])
