# Reading: strings. Each function gets the place behind the opening quote.

cdef enum:
    CACHED_KEYS = 1024

cdef struct CachedKey:
    # The key's bytes, padded with NUL: no two keys give the same pair, and none that of no key.
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
    return read_odd_text(r, p)


cdef inline const char* read_key(Reader* r, const char* p) noexcept:
    """The same for a key of an object, from the cache if it is short."""
    cdef uint64_t low, high = 0
    cdef unsigned int stops, at
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
    at = ((low ^ (high << 7 | high >> 57)) * <uint64_t>0x9E3779B97F4A7C15) >> 54
    cached = &key_cache[at]
    if cached.low != low or cached.high != high:
        cached = &key_cache[at ^ 1]
    if cached.low == low and cached.high == high:
        return put(r, p + n + 1, Py_NewRef(cached.text))
    text = ascii_new(p, n)
    if text is NULL or PyObject_Hash(text) == -1:
        Py_XDECREF(text)
        return NULL
    # The older one of a pair goes, so that two keys of one session can share a pair.
    Py_XDECREF(cached.text)
    cached[0] = key_cache[at]
    key_cache[at] = CachedKey(low, high, Py_NewRef(text))
    return put(r, p + n + 1, text)


cdef const char* LETTERS = b'"\\/bfnrt'
cdef const char* MEANINGS = b'"\\/\b\f\n\r\t'


cdef const char* read_odd_text(Reader* r, const char* p) noexcept:
    """Any string, by way of UTF-16, which JSON's escapes are in."""
    cdef uint16_t* to
    cdef uint32_t c
    cdef uint64_t two = 1 << 24 | 1
    cdef int digit, i
    cdef bint surrogates = False
    cdef const char* found
    if r.units is NULL:
        # No unit takes less than a byte of what is left of the document.
        r.units = <uint16_t*>PyMem_Malloc(2 * (r.end - p) + 2)
        if r.units is NULL:
            PyErr_NoMemory()
            return NULL
    to = r.units
    while True:
        # Two characters of three bytes promise more of them.
        while r.end - p >= 48 and load8(p) & 0xC0C0F0 * two == 0x8080E0 * two:
            i = read_threes(p, to)
            to += i
            p += 3 * i
            if i < 16:
                break
        c = <unsigned char>p[0]
        if c == c'"':
            break
        if c < 0x20:
            return NULL
        if c == c"\\" and p[1] == c"u":
            c = 0
            for i in range(4):
                digit = hex_digit(p[2 + i])
                if digit < 0:
                    return NULL
                c = c << 4 | <uint32_t>digit
            surrogates |= c >> 11 == 0x1B
            p += 6
        elif c == c"\\":
            found = <const char*>memchr(LETTERS, p[1], 8)
            if found is NULL:
                return NULL
            c = MEANINGS[found - LETTERS]
            p += 2
        elif c < 0x80:
            p += 1
        elif c < 0xE0:
            if c < 0xC2 or not is_more(p[1]):
                return NULL
            c = (c & 0x1F) << 6 | p[1] & 0x3F
            p += 2
        elif c < 0xF0:
            if not is_more(p[1]) or not is_more(p[2]):
                return NULL
            c = (c & 0xF) << 12 | (p[1] & 0x3F) << 6 | p[2] & 0x3F
            if c < 0x800 or c >> 11 == 0x1B:
                return NULL
            p += 3
        else:
            if not is_more(p[1]) or not is_more(p[2]) or not is_more(p[3]):
                return NULL
            c = (c & 0xF) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | p[3] & 0x3F
            if not 0x10000 <= c <= 0x10FFFF:
                return NULL
            to[0] = <uint16_t>(0xD7C0 + (c >> 10))
            to += 1
            c = 0xDC00 | c & 0x3FF
            surrogates = True
            p += 4
        to[0] = <uint16_t>c
        to += 1
    if surrogates:
        return put(r, p + 1, join_pairs(r.units, to - r.units))
    return put(r, p + 1, PyUnicode_FromKindAndData(PyUnicode_2BYTE_KIND, r.units, to - r.units))


cdef PyObject* join_pairs(const uint16_t* units, Py_ssize_t n) noexcept:
    """A str of UTF-16 in which a pair of surrogates is one character, and a lone one itself."""
    cdef Py_ssize_t i, pairs = 0
    cdef uint32_t c
    cdef uint32_t* to
    cdef PyObject* text
    for i in range(n - 1):
        pairs += units[i] >> 10 == 0x36 and units[i + 1] >> 10 == 0x37
    if pairs == 0:
        return PyUnicode_FromKindAndData(PyUnicode_2BYTE_KIND, units, n)
    text = PyUnicode_New(n - pairs, 0x10FFFF)
    if text is NULL:
        return NULL
    to = <uint32_t*>text_data(text)
    i = 0
    while i < n:
        c = units[i]
        i += 1
        if c >> 10 == 0x36 and i < n and units[i] >> 10 == 0x37:
            c = 0x10000 + ((c & 0x3FF) << 10 | units[i] & 0x3FF)
            i += 1
        to[0] = c
        to += 1
    return text


cdef inline bint is_more(char c) noexcept:
    """Whether a byte goes on with a character of UTF-8."""
    return (c & 0xC0) == 0x80
