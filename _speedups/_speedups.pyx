# cython: language_level=3, binding=False, always_allow_keywords=False
# cython: boundscheck=False, wraparound=False, cdivision=True
"""The compiled arm of the hot path.

Everything here has a twin in ``quart_session._pure``, which decides all that is odd. Functions
that take ``PyObject*`` handle references by hand: a name that ends in ``_new`` or that returns
``PyObject*`` hands a new reference to its caller, arguments are borrowed.
"""

import hmac
from decimal import Decimal
from uuid import UUID, SafeUUID

from markupsafe import Markup

from quart_session import _pure
from quart_session._pure import CHANGED, TOO_DEEP, TOO_MANY_DIGITS, Refused, unhashable
from quart_session.errors import CodecError

include "capi.pxi"
include "ids.pxi"
include "buffer.pxi"
include "text.pxi"
include "numbers.pxi"
include "tagged_values.pxi"
include "writer.pxi"
include "parse_text.pxi"
include "parse_numbers.pxi"
include "parse_tags.pxi"
include "reader.pxi"


cdef class Codec:
    """Encodes and decodes with the tags of one registry; see ``_pure.Codec``."""

    cdef readonly object _registry
    # The registry's attributes that the hot path needs, taken over by _refresh().
    cdef object asked, escaped, tags
    cdef bint full, custom, replaced

    def __init__(self, registry):
        self._registry = registry
        self._refresh()

    def _refresh(self):
        registry = self._registry
        self.asked = registry.asked if registry.asked else None
        self.escaped = registry.escaped
        self.tags = registry.tags
        self.full = registry.full
        self.custom = registry.custom
        self.replaced = registry.replaced

    def dumps(self, value):
        """Encode *value* as bytes."""
        if self._registry is None:
            raise TypeError("Codec.__init__ was not called")
        cdef Writer writer
        writer.registry = <PyObject*>self._registry
        writer.asked = NULL if self.asked is None else <PyObject*>self.asked
        writer.escaped = <PyObject*>self.escaped
        writer.full = self.full
        writer.custom = self.custom
        return take(write_document(&writer, <PyObject*>value))

    def loads(self, data):
        """Decode *data*, which is bytes, bytearray, memoryview or str."""
        if self._registry is None:
            raise TypeError("Codec.__init__ was not called")
        cdef Reader reader
        cdef object held = data
        reader.tags = <PyObject*>self.tags
        reader.any_key = self.custom
        reader.shortcuts = not self.replaced
        reader.surrogates = False
        if isinstance(held, str):
            if not text_is_ascii(<PyObject*>held):
                held = held.encode("utf-8", "surrogatepass")
                reader.surrogates = True
        elif isinstance(held, (bytearray, memoryview)):
            held = bytes(held)
        elif not isinstance(held, bytes):
            raise TypeError(f"a session document is bytes or str, not {_pure.type_name(data)}")
        if isinstance(held, bytes):
            reader.start = PyBytes_AS_STRING(<PyObject*>held)
            reader.end = reader.start + PyBytes_GET_SIZE(<PyObject*>held)
        else:
            reader.start = <const char*>text_data(<PyObject*>held)
            reader.end = reader.start + text_length(<PyObject*>held)
        try:
            return take(read_document(&reader))
        except Malformed:
            pass
        # The reference decides: it drops a repeated key's earlier values before it looks at any
        # tag, and it finds the words for the error.
        return _pure.Codec(self._registry).loads(data)
