# JSON strings to Python strings.

cdef struct Open:
    Py_ssize_t base  # where its values start
    int kind

cdef struct Reader:
    const char* start
    const char* p
    const char* end  # a NUL byte stands here, which ends every loop that looks at single bytes
    PyObject* tags
    bint any_key  # whether a tag's key may be something that starts without a space
    bint shortcuts  # whether the built-in tags mean what they meant
    bint surrogates  # whether surrogates may stand in the document as they are
    bint malformed_tag
    # Values read whose container is still open, and those containers.
    PyObject** values
    Py_ssize_t n_values
    Py_ssize_t room
    Open* open
    int top
    int depth
    bint shared  # whether both are the shared ones


cdef enum:
    CACHED_KEYS = 1024

cdef struct CachedKey:
    # The key's bytes, padded with NUL: no two keys give the same pair.
    uint64_t low
    uint64_t high
    PyObject* text

# Keys come again in every session, so short ones are kept, with their hash. Values never are.
cdef CachedKey key_cache[CACHED_KEYS]

cdef enum:
    CANNOT = -1


cdef object invalid_json = "invalid JSON"
cdef object invalid_utf8 = "invalid UTF-8"


cdef int fail(reason) except -1:
    raise CodecError(f"{_pure.NOT_A_DOCUMENT}: {reason}")


cdef inline PyObject* ascii_new(const char* source, Py_ssize_t n) except NULL:
    cdef PyObject* text
    if n < 2:
        # Shared objects of the interpreter.
        return PyUnicode_FromKindAndData(PyUnicode_1BYTE_KIND, source, n)
    text = PyUnicode_New(n, 127)
    memcpy(text_data(text), source, n)
    return text


cdef inline const char* clean_end(const char* p, const char* end) noexcept:
    """The first byte from *p* on that is no plain ASCII of a string."""
    cdef unsigned int stops
    while end - p >= 16:
        stops = stops16(p, 1)
        if stops:
            return p + first_bit(stops)
        p += 16
    while ESCAPE[p[0] & 127] == 0 and not p[0] & 128:
        p += 1
    return p


cdef inline PyObject* read_text(Reader* r) except NULL:
    """Read a string whose opening quote is behind r.p; leave r.p behind the closing one."""
    cdef const char* p = clean_end(r.p, r.end)
    cdef PyObject* text
    if p[0] == c'"':
        text = ascii_new(r.p, p - r.p)
        r.p = p + 1
        return text
    return read_odd_text(r, p)


cdef inline PyObject* read_key(Reader* r) except NULL:
    """The same for a key of an object, from the cache if it is short."""
    cdef const char* p = r.p
    cdef uint64_t low, high
    cdef unsigned int stops, slot_at
    cdef int n
    cdef CachedKey* cached
    cdef PyObject* text
    cdef char last[16]
    if r.end - p < 16:
        # Near the end, look at a copy that may be looked at in whole.
        memset(last, 0, 16)
        memcpy(last, p, r.end - p)
        p = last
    stops = stops16(p, 1)
    if stops == 0:
        return read_text(r)
    n = first_bit(stops)
    if p[n] != c'"' or n == 0:
        return read_text(r)
    low = load8(p)
    high = 0
    if n < 8:
        low = keep_bytes(low, n)
    elif n > 8:
        high = keep_bytes(load8(p + 8), n - 8)
    slot_at = <unsigned int>(((low ^ (high << 7 | high >> 57)) * <uint64_t>0x9E3779B97F4A7C15) >> 54)
    cached = &key_cache[slot_at]
    r.p += n + 1
    if cached.low == low and cached.high == high and cached.text is not NULL:
        Py_INCREF(cached.text)
        return cached.text
    text = ascii_new(p, n)
    PyObject_Hash(text)
    Py_INCREF(text)
    Py_XDECREF(cached.text)
    cached.low = low
    cached.high = high
    cached.text = text
    return text


cdef extern from *:
    """
    /* The first n of 8 bytes in memory order, 0 < n < 8, the rest zero. */
    static inline uint64_t qs_keep_bytes(uint64_t x, int n) {
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        return x & (~(uint64_t)0 << (64 - 8 * n));
    #else
        return x & (~(uint64_t)0 >> (64 - 8 * n));
    #endif
    }
    /* Measures text that is not all ASCII, 16 bytes at a time, up to a block in which the string
       ends or an escape starts: counts continuation bytes and finds the greatest byte. */
    static const char *qs_measure(const char *p, const char *end, int64_t *more,
                                  unsigned char *greatest) {
    #ifdef QS_SSE2
        __m128i sum = _mm_setzero_si128(), most = _mm_setzero_si128();
        int i;
        unsigned char bytes[16];
        int64_t sums[2];
        for (; end - p >= 16 && qs_stops16(p, 0) == 0; p += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)p);
            most = _mm_max_epu8(most, x);
            sum = _mm_add_epi64(sum, _mm_sad_epu8(_mm_setzero_si128(), _mm_and_si128(
                _mm_cmplt_epi8(x, _mm_set1_epi8(-64)), _mm_set1_epi8(1))));
        }
        _mm_storeu_si128((__m128i *)bytes, most);
        _mm_storeu_si128((__m128i *)sums, sum);
        for (i = 0; i < 16; i++) if (bytes[i] > *greatest) *greatest = bytes[i];
        *more += sums[0] + sums[1];
    #endif
        return p;
    }
    """
    uint64_t keep_bytes "qs_keep_bytes"(uint64_t, int)
    const char* measure "qs_measure"(const char*, const char*, int64_t*, unsigned char*)


cdef PyObject* read_odd_text(Reader* r, const char* p) except NULL:
    """A string with an escape or something beyond ASCII, at which *p* points."""
    cdef int64_t more = 0
    cdef unsigned char greatest = 0, c
    cdef const char* ahead = p
    cdef PyObject* text
    # Find the end, count characters and learn their width, as long as no escape shows up.
    ahead = measure(ahead, r.end, &more, &greatest)
    while True:
        c = <unsigned char>ahead[0]
        if c < 128 and ESCAPE[c]:
            break
        more += (c & 0xC0) == 0x80
        greatest = max(greatest, c)
        ahead += 1
    if c == c"\\":
        return read_escaped_text(r, ahead)
    if c != c'"':
        fail(invalid_json)
    # Each character but the continuation bytes makes one unit, so what is written always fits,
    # whether the text is valid or not.
    cdef Py_ssize_t n = (ahead - r.p) - more
    if n <= 0:
        fail(invalid_utf8)
    if greatest < 0xC4:
        text = PyUnicode_New(n, 0xFF)
        n = decode_utf8(r.p, ahead, <uint8_t*>text_data(text), r.surrogates)
    elif greatest < 0xF0:
        text = PyUnicode_New(n, 0xFFFF)
        n = decode_utf8(r.p, ahead, <uint16_t*>text_data(text), r.surrogates)
    else:
        text = PyUnicode_New(n, 0x10FFFF)
        n = decode_utf8(r.p, ahead, <uint32_t*>text_data(text), r.surrogates)
    if n < 0:
        Py_DECREF(text)
        fail(invalid_utf8)
    r.p = ahead + 1
    return text


cdef inline Py_ssize_t decode_utf8(
    const char* source, const char* end, Unit* to, bint surrogates
) noexcept:
    """Decode what a quote follows at *end*. How many units were written, or CANNOT."""
    cdef const uint8_t* p = <const uint8_t*>source
    cdef Unit* begin = to
    cdef unsigned int c, value
    while p < <const uint8_t*>end:
        c = p[0]
        if Unit is not uint8_t and c >> 4 == 0xE and end - <const char*>p > 2:
            # The closing quote may be looked at along with the last character.
            value = load_low_first(p)
            if value & 0xC0C000 != 0x808000:
                return CANNOT
            value = (value & 0xF) << 12 | (value & 0x3F00) >> 2 | (value & 0x3F0000) >> 16
            if value < 0x800 or value >> 11 == 0x1B and not surrogates:
                return CANNOT
            to[0] = <Unit>value
            p += 3
        elif c < 0x80:
            to[0] = <Unit>c
            p += 1
        elif c < 0xE0:
            if c < 0xC2 or (p[1] & 0xC0) != 0x80:
                return CANNOT
            to[0] = <Unit>((c & 0x1F) << 6 | p[1] & 0x3F)
            p += 2
        elif Unit is uint8_t:
            return CANNOT
        elif c < 0xF0:
            return CANNOT  # cut short
        elif Unit is uint16_t:
            return CANNOT
        else:
            if (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80 or (p[3] & 0xC0) != 0x80:
                return CANNOT
            value = (c & 7) << 18 | (p[1] & 0x3F) << 12 | (p[2] & 0x3F) << 6 | p[3] & 0x3F
            if c > 0xF4 or value < 0x10000 or value > 0x10FFFF:
                return CANNOT
            to[0] = <Unit>value
            p += 4
        to += 1
    return to - begin


cdef int8_t HEX_VALUE[256]
cdef int _h
for _h in range(256):
    HEX_VALUE[_h] = int(chr(_h), 16) if chr(_h) in "0123456789abcdefABCDEF" else -1


cdef inline int hex_digit(char c) noexcept:
    return HEX_VALUE[<unsigned char>c]


cdef inline int read_unit(const char* p) noexcept:
    """Four hexadecimal digits, or CANNOT."""
    cdef int unit = 0, digit, i
    for i in range(4):
        digit = hex_digit(p[i])
        if digit < 0:
            return CANNOT
        unit = unit << 4 | digit
    return unit


cdef PyObject* read_escaped_text(Reader* r, const char* p) except NULL:
    """A string with an escape, the first of which is at *p*: by way of 4 bytes a character."""
    cdef unsigned int c, more, least
    cdef int unit, second
    cdef Py_UCS4* wide
    cdef Py_UCS4* to
    cdef PyObject* text = NULL
    cdef object reason = None
    while p[0] != c'"':
        if p[0] == c"\\":
            p += 1
        if 0 <= p[0] < 32:
            fail(invalid_json)
        p += 1
        p = plain_end(p, r.end)
    cdef const char* end = p
    wide = <Py_UCS4*>PyMem_Malloc((end - r.p) * sizeof(Py_UCS4))
    if wide is NULL:
        PyErr_NoMemory()
        return NULL
    to = wide
    p = r.p
    while p < end:
        c = <unsigned char>p[0]
        p += 1
        if c == c"\\":
            c = <unsigned char>p[0]
            p += 1
            if c == c"u":
                unit = read_unit(p)
                if unit < 0:
                    reason = invalid_json
                    break
                p += 4
                if (unit & 0xFC00) == 0xD800 and p[0] == c"\\" and p[1] == c"u":
                    second = read_unit(p + 2)
                    if second >= 0 and (second & 0xFC00) == 0xDC00:
                        unit = 0x10000 + ((unit & 0x3FF) << 10 | second & 0x3FF)
                        p += 6
                c = unit
            elif c == c"n":
                c = c"\n"
            elif c == c"t":
                c = c"\t"
            elif c == c"r":
                c = c"\r"
            elif c == c"b":
                c = c"\b"
            elif c == c"f":
                c = c"\f"
            elif c != c'"' and c != c"\\" and c != c"/":
                reason = invalid_json
                break
        elif c >= 0x80:
            if c < 0xC2 or c > 0xF4:
                reason = invalid_utf8
                break
            if c < 0xE0:
                more = 1
                least = 0x80
                c &= 0x1F
            elif c < 0xF0:
                more = 2
                least = 0x800
                c &= 0xF
            else:
                more = 3
                least = 0x10000
                c &= 7
            while more and (p[0] & 0xC0) == 0x80:
                c = c << 6 | p[0] & 0x3F
                p += 1
                more -= 1
            if more or c < least or c > 0x10FFFF or c >> 11 == 0x1B and not r.surrogates:
                reason = invalid_utf8
                break
        to[0] = c
        to += 1
    if reason is None:
        try:
            text = PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, wide, to - wide)
        finally:
            PyMem_Free(wide)
        r.p = end + 1
        return text
    PyMem_Free(wide)
    fail(reason)


cdef inline const char* plain_end(const char* p, const char* end) noexcept:
    """The next quote, backslash or control character."""
    cdef unsigned int stops
    while end - p >= 16:
        stops = stops16(p, 0)
        if stops:
            return p + first_bit(stops)
        p += 16
    while p[0] & 128 or ESCAPE[p[0] & 127] == 0:
        p += 1
    return p
