# Python strings to JSON strings.

cdef const char* HEX = b"0123456789abcdef"
# For bytes below 128: 0 to write it as it is, 1 for a \u escape, else the letter of its escape.
cdef char ESCAPE[128]


cdef void fill_escape_table() noexcept:
    cdef int c
    for c in range(128):
        ESCAPE[c] = 1 if c < 32 else 0
    ESCAPE[c"\b"] = c"b"
    ESCAPE[c"\t"] = c"t"
    ESCAPE[c"\n"] = c"n"
    ESCAPE[c"\f"] = c"f"
    ESCAPE[c"\r"] = c"r"
    ESCAPE[c'"'] = c'"'
    ESCAPE[c"\\"] = c"\\"


fill_escape_table()


cdef inline char* write_unit(char* p, unsigned int unit) noexcept:
    r"""Write \uXXXX; takes 6 bytes."""
    p[0] = c"\\"
    p[1] = c"u"
    p[2] = HEX[unit >> 12 & 15]
    p[3] = HEX[unit >> 8 & 15]
    p[4] = HEX[unit >> 4 & 15]
    p[5] = HEX[unit & 15]
    return p + 6


cdef inline char* write_low(char* p, unsigned int c) noexcept:
    """Write a character below 128; takes at most 6 bytes."""
    cdef char escape = ESCAPE[c]
    if escape == 0:
        p[0] = <char>c
        return p + 1
    if escape == 1:
        return write_unit(p, c)
    p[0] = c"\\"
    p[1] = escape
    return p + 2


cdef inline char* write_text(Writer* w, char* p, PyObject* text) except NULL:
    """Write a str with its quotes. Needs, and does not look for, room for 24 bytes."""
    cdef Py_ssize_t n
    cdef const char* source
    cdef uint64_t first, last
    if not w.full or not text_is_compact_ascii(text):
        return long_text(w, p, text)
    n = text_length(text)
    source = compact_data(text)
    # Short strings in two overlapping pieces; what is dirty is written again by the other way.
    if 8 <= n <= 16:
        first = load8(source)
        last = load8(source + n - 8)
        if dirty8(first) | dirty8(last):
            return long_text(w, p, text)
        store8(p + 1, first)
        store8(p + n - 7, last)
    elif 4 <= n < 8:
        first = load4(source)
        last = load4(source + n - 4)
        if dirty8(first << 32 | last):
            return long_text(w, p, text)
        store4(p + 1, <uint32_t>first)
        store4(p + n - 3, <uint32_t>last)
    else:
        return long_text(w, p, text)
    p[0] = c'"'
    p[n + 1] = c'"'
    return p + n + 2


cdef char* write_long_text(Writer* w, char* p, PyObject* text) except NULL:
    """Write any str, or an instance of a subclass by its characters, with its quotes."""
    cdef Py_ssize_t n
    cdef const char* source
    if not w.full or not text_is_ascii(text):
        p = write_wide_text(w, p, text)
        return reserve(w, p, SPARE)
    n = text_length(text)
    source = <const char*>text_data(text)
    # Room for blind stores of 16 bytes, and for one escape, beyond the text itself.
    p = reserve(w, p, n + 40 + SPARE)
    p[0] = c'"'
    p += 1
    if n >= 16:
        while n >= 16:
            if copy16(p, source):
                return write_escaped_text(w, p, source, n)
            p += 16
            source += 16
            n -= 16
        if n:
            # The last 16 bytes once more, overlapping what is clean and written already.
            if copy16(p + n - 16, source + n - 16):
                return write_escaped_text(w, p, source, n)
            p += n
    else:
        while n > 0:
            if ESCAPE[<unsigned char>source[0]]:
                return write_escaped_text(w, p, source, n)
            p[0] = source[0]
            p += 1
            source += 1
            n -= 1
    p[0] = c'"'
    return p + 1


# Called through a variable, so that the C compiler does not put all of it into the loops.
cdef char* (*long_text)(Writer*, char*, PyObject*) except NULL
long_text = write_long_text


cdef char* write_escaped_text(Writer* w, char* p, const char* source, Py_ssize_t n) except NULL:
    """The rest of an ASCII string in which something needs an escape."""
    cdef int i
    cdef uint64_t eight
    while n > 0:
        p = reserve(w, p, n + 64)
        if n >= 8:
            eight = load8(source)
            if not dirty8(eight):
                store8(p, eight)
                p += 8
            else:
                for i in range(8):
                    p = write_low(p, <unsigned char>source[i])
            source += 8
            n -= 8
        else:
            p = write_low(p, <unsigned char>source[0])
            source += 1
            n -= 1
    p = reserve(w, p, 1 + SPARE)
    p[0] = c'"'
    return p + 1


ctypedef fused Unit:
    uint8_t
    uint16_t
    uint32_t


cdef inline char* write_units(char* p, const Unit* source, Py_ssize_t n, bint full) noexcept:
    """Write *n* characters; takes at most 12 bytes for each, and 4 more."""
    cdef unsigned int c, d
    cdef const Unit* end = source + n
    while source < end:
        c = source[0]
        if Unit is not uint8_t and full and end - source >= 2:
            # Two characters of three bytes each, the common case beyond Latin scripts.
            d = source[1]
            if <uint32_t>(c - 0x800) < 0xD000 and <uint32_t>(d - 0x800) < 0xD000:
                store_low_first(p, 0x8080E0 | c >> 12 | (c & 0xFC0) << 2 | (c & 0x3F) << 16)
                store_low_first(p + 3, 0x8080E0 | d >> 12 | (d & 0xFC0) << 2 | (d & 0x3F) << 16)
                source += 2
                p += 6
                continue
        source += 1
        if not full:
            # As Flask does, from DEL on.
            if c < 0x7F:
                p = write_low(p, c)
                continue
            if Unit is uint32_t and c >= 0x10000:
                p = write_unit(p, 0xD800 + ((c - 0x10000) >> 10))
                c = 0xDC00 + (c & 0x3FF)
            p = write_unit(p, c)
        elif Unit is not uint8_t and 0x800 <= c < 0x10000:
            if c >> 11 == 0x1B:
                p = write_unit(p, c)  # a lone surrogate: UTF-8 has no form for it
            else:
                store_low_first(p, 0x8080E0 | c >> 12 | (c & 0xFC0) << 2 | (c & 0x3F) << 16)
                p += 3
        elif c < 0x80:
            p = write_low(p, c)
        elif Unit is uint8_t or c < 0x800:
            store_low_first(p, 0x80C0 | c >> 6 | (c & 0x3F) << 8)
            p += 2
        else:
            store_low_first(
                p,
                <uint32_t>0x808080F0 | c >> 18 | (c >> 12 & 0x3F) << 8 | (c >> 6 & 0x3F) << 16
                | (c & 0x3F) << 24,
            )
            p += 4
    return p


cdef enum:
    PORTION = 512  # characters between two looks at the room left


cdef char* write_wide_text(Writer* w, char* p, PyObject* text) except NULL:
    """A string beyond ASCII, or for Flask's ASCII. Straight from its storage: its cached UTF-8 would stay behind."""
    text_ready(text)
    cdef Py_ssize_t n = text_length(text), i = 0, portion
    cdef int kind = text_kind(text)
    cdef const char* source = <const char*>text_data(text)
    p = reserve(w, p, 1)
    p[0] = c'"'
    p += 1
    while i < n:
        portion = min(n - i, PORTION)
        p = reserve(w, p, 12 * portion + 4)
        if kind == PyUnicode_1BYTE_KIND:
            p = write_units(p, <const uint8_t*>source + i, portion, w.full)
        elif kind == PyUnicode_2BYTE_KIND:
            p = write_units(p, <const uint16_t*>source + i, portion, w.full)
        else:
            p = write_units(p, <const uint32_t*>source + i, portion, w.full)
        i += portion
    p = reserve(w, p, 1)
    p[0] = c'"'
    return p + 1
