"""Clients of memcached for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import emcache


@asynccontextmanager
async def emcache_client(port: int, **options: Any) -> AsyncIterator[emcache.Client]:
    address = emcache.MemcachedHostAddress("127.0.0.1", port)
    client = await emcache.create_client([address], **options)
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0)
