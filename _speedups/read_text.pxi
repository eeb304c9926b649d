# Reading: strings. Each function gets the place behind the opening quote.

cdef enum:
    CACHED_KEYS = 1024

cdef struct CachedKey:
    # The key's bytes, padded with NUL: no two keys give the same pair.
    uint64_t low
    uint64_t high
    PyObject* text  # owned

# Keys come again in every session, so short ones are kept, with their hash. Values never are.
cdef CachedKey key_cache[CACHED_KEYS]


cdef inline PyObject* ascii_new(const char* source, Py_ssize_t n) noexcept:
    cdef PyObject* text
    if n < 2:
        # Shared objects of the interpreter.
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, source, n)
    text = PyUnicode_New(n, 127)
    if text is not NULL:
        memcpy(text_data(text), source, n)
    return text


cdef inline const char* past_plain(const char* p, const char* end) noexcept:
    """The first byte from *p* on that is no plain ASCII of a string."""
    cdef unsigned int stops
    while end - p >= 16:
        stops = stops16(p)
        if stops:
            return p + first_bit(stops)
        p += 16
    while not p[0] & 128 and ESCAPE[<unsigned char>p[0]] == 0:
        p += 1
    return p


cdef inline const char* read_text(Reader* r, const char* p) noexcept:
    cdef const char* end = past_plain(p, r.end)
    if end[0] == c'"':
        return put(r, end + 1, ascii_new(p, end - p))
    return read_odd_text(r, p, end)


cdef inline const char* read_key(Reader* r, const char* p) noexcept:
    """The same for a key of an object, from the cache if it is short."""
    cdef uint64_t low, high = 0
    cdef unsigned int stops
    cdef int n
    cdef CachedKey* cached
    cdef PyObject* text
    cdef const char* source = p
    cdef char last[16]
    if r.end - p < 16:
        # Near the end, look at a copy that may be looked at in whole.
        memset(last, 0, 16)
        memcpy(last, p, r.end - p)
        source = last
    stops = stops16(source)
    if stops == 0:
        return read_text(r, p)
    n = first_bit(stops)
    if p[n] != c'"' or n == 0:
        return read_text(r, p)
    low = load8(source)
    if n < 8:
        low = keep_bytes(low, n)
    elif n > 8:
        high = keep_bytes(load8(source + 8), n - 8)
    cached = &key_cache[
        ((low ^ (high << 7 | high >> 57)) * <uint64_t>0x9E3779B97F4A7C15) >> 54
    ]
    if cached.low == low and cached.high == high and cached.text is not NULL:
        return put(r, p + n + 1, Py_NewRef(cached.text))
    text = ascii_new(p, n)
    if text is NULL or PyObject_Hash(text) == -1:
        Py_XDECREF(text)
        return NULL
    Py_XDECREF(cached.text)
    cached.low = low
    cached.high = high
    cached.text = Py_NewRef(text)
    return put(r, p + n + 1, text)


cdef const char* read_odd_text(Reader* r, const char* start, const char* p) noexcept:
    """A string in which *p* points at an escape or at something beyond ASCII."""
    cdef Py_ssize_t more = 0, escapes = 0, n
    cdef bint letters = True  # whether all escapes are of two bytes
    cdef uint64_t eight, leads, beyond = 0, wide = 0, widest = 0
    cdef PyObject* text
    # Find the end, count the bytes that make no character of their own, and learn whether there
    # are characters of more than 8 bits (a first byte from C4 on) and of more than 16 (from F0 on).
    while True:
        if r.end - p >= 8:
            eight = load8(p)
            if has_stop8(eight):
                eight = <unsigned char>p[0]
        else:
            eight = <unsigned char>p[0]
        more += count_high_bits(eight & ~(eight << 1))
        leads = eight & eight << 1
        beyond |= eight
        wide |= leads & (eight << 2 | eight << 3 | eight << 4 | eight << 5)
        widest |= leads & eight << 2 & eight << 3
        if eight > 255:
            p += 8
            continue
        if eight == c'"':
            break
        if eight < 32:
            return NULL
        if eight == c"\\":
            escapes += 1
            p += 1
            if 0 <= p[0] < 32:
                return NULL
            letters &= p[0] != c"u"
        p += 1
    if escapes:
        if letters and not has_high_bit(beyond):
            return read_escaped_text(r, start, p, escapes)
        return read_any_text(r, start, p)
    # Each of the other bytes makes one unit, so what is written always fits, be it valid or not.
    n = p - start - more
    if n <= 0:
        return NULL
    text = PyUnicode_New(n, 0x10FFFF if has_high_bit(widest) else 0xFFFF if has_high_bit(wide) else 0xFF)
    if text is NULL:
        return NULL
    if has_high_bit(widest):
        n = decode_utf8(start, p, <uint32_t*>text_data(text))
    elif has_high_bit(wide):
        n = decode_utf8(start, p, <uint16_t*>text_data(text))
    else:
        n = decode_utf8(start, p, <uint8_t*>text_data(text))
    if n < 0:
        Py_DECREF(text)
        return NULL
    return put(r, p + 1, text)


cdef const char* read_escaped_text(
    Reader* r, const char* p, const char* end, Py_ssize_t escapes
) noexcept:
    """A string of ASCII with escapes of two bytes each."""
    cdef PyObject* text = PyUnicode_New(end - p - escapes, 127)
    cdef char* to
    cdef const char* found
    if text is NULL:
        return NULL
    to = <char*>text_data(text)
    while p < end:
        to[0] = p[0]
        if p[0] == c"\\":
            p += 1
            found = <const char*>memchr(LETTERS, p[0], 8)
            if found is NULL:
                Py_DECREF(text)
                return NULL
            to[0] = MEANINGS[found - LETTERS]
        p += 1
        to += 1
    return put(r, end + 1, text)


cdef const char* LETTERS = b'"\\/bfnrt'
cdef const char* MEANINGS = b'"\\/\b\f\n\r\t'


cdef const char* read_any_text(Reader* r, const char* start, const char* end) noexcept:
    """Any string, by the standard library; so is the one answer where it can be read."""
    cdef PyObject* quoted = PyUnicode_DecodeUTF8(start, end + 1 - start, NULL)
    cdef PyObject* read = NULL
    cdef PyObject* text = NULL
    if quoted is not NULL:
        read = PyObject_CallFunction(<PyObject*>scanstring, b"Oi", quoted, 0)
        Py_DECREF(quoted)
    if read is not NULL:
        text = Py_NewRef(PyTuple_GET_ITEM(read, 0))
        Py_DECREF(read)
    elif PyErr_ExceptionMatches(<PyObject*>ValueError):
        PyErr_Clear()
    return put(r, end + 1, text)


cdef object scanstring = json.decoder.scanstring


cdef inline Py_ssize_t decode_utf8(const char* source, const char* end, Unit* to) noexcept:
    """Decode what a quote follows at *end*. How many units were written, or -1."""
    cdef const uint8_t* p = <const uint8_t*>source
    cdef Unit* begin = to
    cdef uint32_t c
    cdef uint64_t two
    while p < <const uint8_t*>end:
        if Unit is not uint8_t:
            # Two characters of three bytes each, the common case beyond Latin scripts.
            while end - <const char*>p >= 8:
                two = two_by_three(load8_low_first(<const char*>p))
                if two == 0:
                    break
                to[0] = <Unit>(two & 0xFFFF)
                to[1] = <Unit>(two >> 24)
                to += 2
                p += 6
        c = p[0]
        if c < 0x80:
            to[0] = <Unit>c
            p += 1
        elif c < 0xE0:
            if c < 0xC2 or (p[1] & 0xC0) != 0x80:
                return -1
            to[0] = <Unit>((c & 0x1F) << 6 | p[1] & 0x3F)
            p += 2
        elif Unit is uint8_t:
            return -1
        elif c < 0xF0:
            if (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80:
                return -1
            c = (c & 0xF) << 12 | (p[1] & 0x3F) << 6 | p[2] & 0x3F
            if c < 0x800 or c >> 11 == 0x1B:
                return -1
            to[0] = <Unit>c
            p += 3
        elif Unit is uint16_t:
            return -1
        else:
            if (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80 or (p[3] & 0xC0) != 0x80:
                return -1
            c = (c & 0xF) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | p[3] & 0x3F
            if not 0x10000 <= c <= 0x10FFFF:
                return -1
            to[0] = c
            p += 4
        to += 1
    return to - begin


cdef inline uint64_t two_by_three(uint64_t six) noexcept:
    """Two characters, 24 bits apart, of three valid bytes each; 0 if these are none."""
    cdef uint64_t both = 1 << 24 | 1, two, top, surrogate
    if six & 0xC0C0F0 * both != 0x8080E0 * both:
        return 0
    two = (six & 0xF * both) << 12 | (six & 0x3F00 * both) >> 2 | six >> 16 & 0x3F * both
    top = two & 0xF800 * both
    surrogate = top ^ 0xD800 * both
    # Neither too small for three bytes nor a surrogate; see all_take_three().
    if ((top - both) & ~top | (surrogate - both) & ~surrogate) & 0x8000 * both:
        return 0
    return two
