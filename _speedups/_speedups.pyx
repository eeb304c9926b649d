# cython: language_level=3, binding=False, always_allow_keywords=False
# cython: boundscheck=False, wraparound=False, cdivision=True, warn.multiple_declarators=False
"""The compiled arm of the hot path.

Everything here has a twin in ``quart_session._pure``, which is asked about all that is odd.
A ``PyObject*`` is a borrowed reference, unless a comment says that it is owned.
"""

import os
from uuid import UUID, SafeUUID

from markupsafe import Markup

from quart_session import _pure
from quart_session._pure import sign_sid, unsign_sid

include "capi.pxi"

import_datetime()

include "ids.pxi"
include "write_containers.pxi"
include "write_text.pxi"
include "write_numbers.pxi"
include "write_tags.pxi"
include "read_containers.pxi"
include "read_dicts.pxi"
include "read_text.pxi"
include "read_numbers.pxi"
include "read_tags.pxi"


cdef class Codec:
    """Encodes and decodes with the tags of one registry; see ``_pure.Codec``."""

    cdef readonly object _registry
    # The registry's attributes that the hot path needs, taken over by _refresh().
    cdef object escaped, tags
    cdef bint straight, custom, replaced

    def __init__(self, registry):
        self._registry = registry
        self._refresh()

    def _refresh(self):
        registry = self._registry
        # Flask's mode, and tags that are asked about every value, are left to the pure arm.
        self.straight = registry.full and not registry.asked
        self.escaped = registry.escaped
        self.tags = registry.tags
        self.custom = registry.custom
        self.replaced = registry.replaced

    def dumps(self, value):
        """Encode *value* as bytes."""
        cdef Writer writer
        cdef PyObject* document
        if not self.straight:
            return _pure.dumps(self._registry, value)
        writer.registry = <PyObject*>self._registry
        writer.escaped = <PyObject*>self.escaped
        writer.any_key = self.custom
        document = write_document(&writer, <PyObject*>value)
        if document is NULL:
            raise_refused(&writer)
        return take(document)

    def loads(self, data):
        """Decode *data*, which is bytes, bytearray, memoryview or str."""
        cdef Reader reader
        cdef PyObject* value
        cdef bytes document = as_bytes(data)
        if document is None or self._registry is None:
            return _pure.loads(self._registry, data)
        reader.end = PyBytes_AS_STRING(<PyObject*>document) + len(document)
        reader.tags = <PyObject*>self.tags
        reader.any_key = self.custom
        reader.shortcuts = not self.replaced
        value = read_document(&reader, PyBytes_AS_STRING(<PyObject*>document))
        if value is NULL:
            if PyErr_Occurred():
                raise_pending()
            return _pure.loads(self._registry, data)
        return take(value)


cdef inline bytes as_bytes(data):
    """*data* as bytes, or None if it has no bytes or no valid ones."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        try:
            return str.encode(data)
        except UnicodeEncodeError:
            return None
    return bytes(memoryview(data)) if isinstance(data, (bytes, bytearray, memoryview)) else None
