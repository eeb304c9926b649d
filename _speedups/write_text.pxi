# Writing: strings.

# For bytes below 128: 0 to write it as it is, 1 for a \u escape, else the letter of its escape.
cdef char ESCAPE[128]

cdef int _c
for _c in range(128):
    ESCAPE[_c] = _c < 32
for _c, _letter in zip(b'\b\t\n\f\r"\\', b'btnfr"\\'):
    ESCAPE[_c] = _letter


cdef inline char* write_text(Writer* w, char* p, PyObject* text) noexcept:
    """An exact str with its quotes, in line if it is short and plain."""
    cdef Py_ssize_t n
    cdef const char* source
    cdef uint64_t first, last
    if not text_is_compact_ascii(text):
        return write_wide_text(w, p, text)
    n = text_length(text)
    source = compact_data(text)
    # In two pieces that may overlap.
    if 8 <= n <= 16:
        first = load8(source)
        last = load8(source + n - 8)
        store8(p + 1, first)
        store8(p + n - 7, last)
        first = first if has_escape8(first) else last
    elif 4 <= n < 8:
        first = load4(source)
        last = load4(source + n - 4)
        store4(p + 1, <uint32_t>first)
        store4(p + n - 3, <uint32_t>last)
        first |= last << 32
    else:
        return write_ascii(w, p, source, n)
    if has_escape8(first):
        return write_ascii(w, p, source, n)
    p[0] = c'"'
    p[n + 1] = c'"'
    return p + n + 2


cdef char* write_ascii(Writer* w, char* p, const char* source, Py_ssize_t n) noexcept:
    """ASCII text of any length with its quotes."""
    cdef Py_ssize_t length = n
    p[0] = c'"'
    p += 1
    while n > 0:
        p = reserve(w, p, n)
        if p is NULL:
            return NULL
        if n >= 16 and not stops16(source):
            memcpy(p, source, 16)
            p += 16
            source += 16
            n -= 16
        elif n >= 8 and not has_escape8(load8(source)):
            store8(p, load8(source))
            p += 8
            source += 8
            n -= 8
        elif n < 8 <= length and not has_escape8(load8(source + n - 8)):
            # The last ones, together with plain ones that stand before them as they are.
            store8(p + n - 8, load8(source + n - 8))
            p += n
            n = 0
        else:
            p = write_low(p, <unsigned char>source[0])
            source += 1
            n -= 1
    p = reserve(w, p, 0)
    if p is NULL:
        return NULL
    p[0] = c'"'
    return p + 1


cdef inline char* write_low(char* p, unsigned int c) noexcept:
    """A character below 128; takes at most 6 bytes."""
    cdef char escape = ESCAPE[c]
    if escape == 0:
        p[0] = <char>c
        return p + 1
    if escape == 1:
        return write_unit(p, c)
    p[0] = c"\\"
    p[1] = escape
    return p + 2


cdef inline char* write_unit(char* p, unsigned int unit) noexcept:
    r"""\uXXXX; takes 6 bytes."""
    memcpy(p, b"\\u", 2)
    memcpy(p + 2, PAIRS_OF_HEX + 2 * (unit >> 8), 2)
    memcpy(p + 4, PAIRS_OF_HEX + 2 * (unit & 255), 2)
    return p + 6


cdef enum:
    PORTION = 512  # characters between two looks at the room left


cdef char* write_wide_text(Writer* w, char* p, PyObject* text) noexcept:
    """Any str. Straight from its storage: its cached UTF-8 would stay behind."""
    cdef Py_ssize_t n, i = 0, portion
    cdef int kind
    cdef const char* source
    if text_ready(text) < 0:
        return NULL
    n = text_length(text)
    source = <const char*>text_data(text)
    if text_is_ascii(text):
        return write_ascii(w, p, source, n)
    kind = text_kind(text)
    p[0] = c'"'
    p += 1
    while i < n:
        portion = min(n - i, PORTION)
        p = reserve(w, p, 6 * portion)
        if p is NULL:
            return NULL
        if kind == PyUnicode_1BYTE_KIND:
            p = write_units(p, <const uint8_t*>source + i, portion)
        elif kind == PyUnicode_2BYTE_KIND:
            p = write_units(p, <const uint16_t*>source + i, portion)
        else:
            p = write_units(p, <const uint32_t*>source + i, portion)
        i += portion
    p = reserve(w, p, 0)
    if p is NULL:
        return NULL
    p[0] = c'"'
    return p + 1


ctypedef fused Unit:
    uint8_t
    uint16_t
    uint32_t


cdef inline char* write_units(char* p, const Unit* source, Py_ssize_t n) noexcept:
    """*n* characters; takes at most 6 bytes for each, and 4 more."""
    cdef uint32_t c
    cdef const Unit* end = source + n
    while source < end:
        if Unit is not uint8_t:
            # Characters of three bytes each, the common case beyond Latin scripts.
            while end - source >= 8 and write_threes(p, source, sizeof(Unit)):
                source += 8
                p += 24
            if source == end:
                break
        c = source[0]
        source += 1
        if c < 0x80:
            p = write_low(p, c)
        elif Unit is uint8_t or c < 0x800:
            store8(p, 0x80C0 | c >> 6 | (c & 0x3F) << 8)
            p += 2
        elif Unit is uint16_t or c < 0x10000:
            if c >> 11 == 0x1B:
                p = write_unit(p, c)  # a lone surrogate: UTF-8 has no form for it
            else:
                store8(p, 0x8080E0 | c >> 12 | (c & 0xFC0) << 2 | (c & 0x3F) << 16)
                p += 3
        else:
            store8(
                p,
                <uint32_t>0x808080F0 | c >> 18 | (c >> 12 & 0x3F) << 8 | (c >> 6 & 0x3F) << 16
                | (c & 0x3F) << 24,
            )
            p += 4
    return p
