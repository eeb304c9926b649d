# Writing: numbers.

cdef char PAIRS_OF_DIGITS[200]
cdef double POWERS[23]

for _c, _digit in enumerate(b"".join(b"%02d" % i for i in range(100))):
    PAIRS_OF_DIGITS[_c] = _digit
for _c in range(23):
    POWERS[_c] = 10.0**_c


cdef inline char* write_pair(char* p, unsigned int value) noexcept:
    """Two digits of a value below 100."""
    memcpy(p, PAIRS_OF_DIGITS + 2 * value, 2)
    return p + 2


cdef inline char* write_digits(char* p, uint64_t value) noexcept:
    """A natural number; takes at most 20 bytes."""
    cdef uint64_t power = 100
    cdef int n = 2
    cdef char* end
    if value < 10:
        p[0] = <char>(48 + value)
        return p + 1
    while value >= power and n < 20:
        n += 1
        power *= 10
    end = p + n
    while n > 1:
        n -= 2
        write_pair(p + n, value % 100)
        value //= 100
    if n:
        p[0] = <char>(48 + value)
    return end


cdef inline char* write_int(Writer* w, char* p, PyObject* value) noexcept:
    cdef int overflow = 0
    cdef long long small
    small = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return write_odd(w, p, value)
    if small < 0:
        p[0] = c"-"
        return write_digits(p + 1, <uint64_t>0 - <uint64_t>small)
    return write_digits(p, <uint64_t>small)


cdef char* write_float(Writer* w, char* p, PyObject* value) noexcept:
    """What float.__repr__ writes.

    A decimal of at most 15 digits is the shortest that reads as its double. So when the value is
    such a whole number of millionths, those digits are its repr.
    """
    cdef double v = PyFloat_AS_DOUBLE(value)
    cdef uint64_t bits, whole, fraction
    cdef int places = 6
    memcpy(&bits, &v, 8)
    if bits >> 63:
        v = -v
    if FLT_EVAL_METHOD != 0 or not (1e-4 <= v < 1e9 or v == 0):
        return write_any_float(w, p, value)
    whole = <uint64_t>(v * 1e6 + 0.5)
    if <double>whole / 1e6 != v:
        return write_any_float(w, p, value)
    if bits >> 63:
        p[0] = c"-"
        p += 1
    p = write_digits(p, whole // 1000000)
    fraction = whole % 1000000
    p[0] = c"."
    write_pair(p + 1, fraction // 10000)
    write_pair(p + 3, fraction // 100 % 100)
    write_pair(p + 5, fraction % 100)
    while places > 1 and p[places] == c"0":
        places -= 1
    return p + 1 + places


cdef char* write_any_float(Writer* w, char* p, PyObject* value) noexcept:
    """The same by Python's own conversion."""
    cdef double v = PyFloat_AS_DOUBLE(value)
    cdef char* text
    cdef size_t n
    if v - v != 0:
        return write_odd(w, p, value)  # infinite, or no number
    text = PyOS_double_to_string(v, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    if text is NULL:
        return NULL
    # At most 24 bytes: a sign, 17 digits, a point, "e-308".
    n = strlen(text)
    memcpy(p, text, n)
    PyMem_Free(text)
    return p + n
