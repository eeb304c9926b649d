"""Names of version 3 for the errors of the client."""

from coredis.exceptions import ProtocolError, RedisError, ResponseError
from coredis.exceptions import WrongTypeError as ResponseTypeError

__all__ = ["ProtocolError", "RedisError", "ResponseError", "ResponseTypeError"]
