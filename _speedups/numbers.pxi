# Python numbers to JSON.

cdef char PAIRS_OF_DIGITS[200]
cdef double POWERS[23]


cdef void fill_number_tables() noexcept:
    cdef int i
    cdef double power = 1
    for i in range(100):
        PAIRS_OF_DIGITS[2 * i] = <char>(48 + i // 10)
        PAIRS_OF_DIGITS[2 * i + 1] = <char>(48 + i % 10)
    for i in range(23):
        POWERS[i] = power
        power *= 10


fill_number_tables()

cdef extern from "float.h":
    int FLT_EVAL_METHOD


cdef inline char* write_pair(char* p, unsigned int value) noexcept:
    """Two digits of a value below 100."""
    p[0] = PAIRS_OF_DIGITS[2 * value]
    p[1] = PAIRS_OF_DIGITS[2 * value + 1]
    return p + 2


cdef inline char* write_digits(char* p, uint64_t value) noexcept:
    """A natural number; takes at most 20 bytes."""
    cdef char digits[24]
    cdef int i = 24
    if value < 10:
        p[0] = <char>(48 + value)
        return p + 1
    while value >= 100:
        i -= 2
        write_pair(digits + i, value % 100)
        value //= 100
    if value >= 10:
        i -= 2
        write_pair(digits + i, <unsigned int>value)
    else:
        i -= 1
        digits[i] = <char>(48 + value)
    memcpy(p, digits + i, 24 - i)
    return p + (24 - i)


cdef inline char* write_int(Writer* w, char* p, PyObject* value) except NULL:
    """Needs, and does not look for, room for 24 bytes."""
    cdef int overflow = 0
    cdef long long small
    if int_is_digit(value):
        return write_digits(p, <uint64_t>int_as_digit(value))
    small = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow:
        return write_big_int(w, p, value)
    if small < 0:
        p[0] = c"-"
        return write_digits(p + 1, <uint64_t>0 - <uint64_t>small)
    return write_digits(p, <uint64_t>small)


cdef char* write_big_int(Writer* w, char* p, PyObject* value) except NULL:
    own_key(w)
    try:
        digits = take(PyObject_Repr(value))
    except ValueError:
        digits = None
    if digits is None:
        refuse(w, TOO_MANY_DIGITS)
    return write_ascii(w, p, <const char*>text_data(<PyObject*>digits), len(digits))


cdef inline char* write_ascii(Writer* w, char* p, const char* source, Py_ssize_t n) except NULL:
    p = reserve(w, p, n)
    memcpy(p, source, n)
    return p + n


cdef inline char* write_float(Writer* w, char* p, PyObject* value) except NULL:
    """What float.__repr__ writes.

    A decimal of at most 15 digits is the shortest that reads as its double. So when the value is
    such a whole number divided by a power of ten, those digits are its repr.
    """
    cdef double v = PyFloat_AS_DOUBLE(value)
    cdef bint negative = v < 0
    cdef uint64_t whole
    cdef int places, i
    cdef char fraction[8]
    if negative:
        v = -v
    if not 1e-3 <= v < 1e9 or FLT_EVAL_METHOD != 0:
        return write_any_float(w, p, PyFloat_AS_DOUBLE(value))
    # Most have two places at most; six are worth one more try.
    places = 2
    whole = <uint64_t>(v * 100.0 + 0.5)
    if <double>whole / 100.0 != v:
        places = 6
        whole = <uint64_t>(v * 1000000.0 + 0.5)
        if <double>whole / 1000000.0 != v:
            return write_any_float(w, p, PyFloat_AS_DOUBLE(value))
    while places > 1 and whole % 10 == 0:
        whole //= 10
        places -= 1
    for i in range(places - 1, -1, -1):
        fraction[i] = <char>(48 + whole % 10)
        whole //= 10
    p = reserve(w, p, 40)
    if negative:
        p[0] = c"-"
        p += 1
    p = write_digits(p, whole)
    p[0] = c"."
    memcpy(p + 1, fraction, 8)
    return p + 1 + places


cdef char* write_any_float(Writer* w, char* p, double v) except NULL:
    cdef char* text
    cdef Py_ssize_t n = 0
    if v != v:
        return write_ascii(w, p, b"NaN", 3)
    if v - v != 0:
        return write_ascii(w, p, b"Infinity" if v > 0 else b"-Infinity", 8 if v > 0 else 9)
    text = PyOS_double_to_string(v, c"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    while text[n]:
        n += 1
    try:
        return write_ascii(w, p, text, n)
    finally:
        PyMem_Free(text)
