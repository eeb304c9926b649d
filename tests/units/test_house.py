"""The order of the modules: imports run downward only."""

import pytest
from modules import MODULES, imports

FLOORS = [
    {"errors", "deadline", "signals", "address"},
    {"_pure.refusals", "_pure.ids", "_pure.tags"},
    {"_pure.text"},
    {"_pure.registry", "_pure.shortcut"},
    {"_pure.encoding", "_pure.decoding"},
    {"_pure"},
    {"_speedups"},
    {"_hotpath"},
    {"serializer", "cookie", "config", "session", "merge"},
    {"stores.base", "stores.per_loop", "stores.sqlite_file", "stores.filesystem_locks"},
    {"stores.mongodb_documents", "stores.memcached_connection", "stores.filesystem_folder"},
    {"stores.mongodb_clients", "stores.memcached_clients", "stores.sqlite_turns"},
    {"stores.filesystem", "stores.encrypted", "stores.mongodb"},
    {"stores.redis_records", "stores.redis_batches"},
    {"stores.redis_clients", "stores.redis_ways"},
    {"remains", "attempts"},
    {"records"},
    {"users", "pin", "cache"},
    {"commit", "sessions_of_users"},
    {"redis_trio.hosting"},
    {"redis_trio.client"},
    {"redis_trio.pooled"},
    {"redis_trio"},
    {
        "stores.memory",
        "stores.null",
        "stores.sqlite",
        "stores.redis",
        "stores.redis_trio",
        "stores.memcached",
        "interface",
    },
    {"stores"},
    {"sessions", "extension"},
    {""},
]
OUTSIDE = {"testing", "redis_trio.errors"}
"""Nothing imports these."""


def floor(module):
    [number] = [number for number, modules in enumerate(FLOORS) if module in modules]
    return number


def test_every_module_has_a_place():
    named = set().union(*FLOORS) | OUTSIDE
    assert set(MODULES) == named - {"_speedups"}


@pytest.mark.parametrize("module", [name for name in MODULES if name not in OUTSIDE])
def test_imports_run_downward(module):
    for imported in imports(MODULES[module]):
        assert imported not in OUTSIDE
        assert floor(imported) < floor(module), f"{module} imports {imported}"


def test_no_client_library_is_imported_before_its_store_is_used():
    import subprocess
    import sys

    clients = ("coredis", "pymongo", "redis", "trio")
    code = f"import sys, quart_session; print([m for m in {clients} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
