"""A Redis client for Trio, as version 3 had one."""

from quart_session.redis_trio.client import RedisTrio

__all__ = ["RedisTrio"]
