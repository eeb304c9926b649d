"""Records that only the application can read: AES-GCM between the sessions and any store."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from quart_session.stores.base import ABSENT, ANY, Conflict, Expect, Record, Store, Version

logger = logging.getLogger("quart_session")

MAGIC = b"\x00qse1"
"""How every encrypted value begins; no JSON document does. Twelve bytes of nonce follow, then the
ciphertext with its tag."""

NONCE = 12


class EncryptedStore(Store):
    """Encrypts what another store keeps, with AES-256-GCM (NIST SP 800-38D).

    Each record has a key of its own, derived from the secret and the record's place (HKDF, RFC
    5869). So a value that is moved to another place cannot be read there, and the number of random
    nonces that one key bears, 2**32, is counted for each session and not for all of them.

    What cannot be read is no record: whoever looks for it finds nothing and may write over it.

    :param inner: keeps the encrypted values.
    :param secrets: 32 random bytes each. The first one encrypts, all of them decrypt.
    :param plaintext_until: seconds since the epoch; until then a value that was never encrypted is
        read, too. One that is encrypted and cannot be decrypted never counts as plaintext.

    .. versionadded:: 4.0
    """

    def __init__(
        self, inner: Store, secrets: Sequence[bytes], plaintext_until: float = 0.0
    ) -> None:
        self.inner = inner
        self.trio = inner.trio
        self.timely = inner.timely
        self.evicts = inner.evicts
        self.gives_bytes = inner.gives_bytes
        self._secrets = tuple(secrets)
        self._plaintext_until = plaintext_until

    @property
    def backend(self) -> object:
        return self.inner.backend

    async def open(self) -> None:
        await self.inner.open()

    async def close(self) -> None:
        await self.inner.close()

    async def get(self, key: str) -> Record | None:
        return self._decrypt(key, await self.inner.get(key))

    async def set(
        self, key: str, data: bytes, ttl: float, expected: Expect | Version = ANY
    ) -> Version | Conflict:
        encrypted = self._encrypt(key, data)
        result = await self.inner.set(key, encrypted, ttl, expected)
        if not isinstance(result, Conflict):
            return result
        record = self._decrypt(key, result.record)
        if expected is ABSENT and record is None and result.record is not None:
            result = await self.inner.set(key, encrypted, ttl, result.record.version)
            if not isinstance(result, Conflict):
                return result
            record = self._decrypt(key, result.record)
        return Conflict(record)

    async def delete(self, key: str, expected: Expect | Version = ANY) -> Conflict | None:
        result = await self.inner.delete(key, expected)
        return result and Conflict(self._decrypt(key, result.record))

    async def touch(self, key: str, ttl: float) -> bool:
        return await self.inner.touch(key, ttl)

    async def purge_expired(self) -> int:
        return await self.inner.purge_expired()

    def _encrypt(self, key: str, data: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        return MAGIC + nonce + _cipher(self._secrets[0], key).encrypt(nonce, data, MAGIC)

    def _decrypt(self, key: str, record: Record | None) -> Record | None:
        if record is None:
            return None
        data = record.data
        if not data.startswith(MAGIC):
            if time.time() < self._plaintext_until:
                return record
            logger.warning("A stored value is not encrypted, and is not accepted as it is")
            return None
        nonce, encrypted = data[len(MAGIC) :][:NONCE], data[len(MAGIC) + NONCE :]
        for secret in self._secrets:
            try:
                return record._replace(data=_cipher(secret, key).decrypt(nonce, encrypted, MAGIC))
            except (InvalidTag, ValueError):  # ValueError: it was cut short
                continue
        logger.warning("A stored value cannot be decrypted with any of SESSION_ENCRYPTION_KEYS")
        return None


def _cipher(secret: bytes, key: str) -> AESGCM:
    info = b"quart-session encryption at rest\0" + key.encode()
    return AESGCM(HKDFExpand(SHA256(), length=32, info=info).derive(secret))
