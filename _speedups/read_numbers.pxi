# Reading: numbers, as JSON spells them. NaN, Infinity and integers of more than 64 bits are odd.


cdef inline bint is_digit(char c) noexcept:
    return c"0" <= c <= c"9"


cdef inline const char* read_number(Reader* r, const char* p) noexcept:
    cdef bint negative = p[0] == c"-"
    cdef const char* begin = p + negative
    cdef const char* point = NULL
    cdef uint64_t digits = 0
    cdef Py_ssize_t places = 0
    cdef double value
    p = begin
    if not is_digit(p[0]) or p[0] == c"0" and is_digit(p[1]):
        return NULL
    while is_digit(p[0]):
        digits = digits * 10 + (p[0] - c"0")
        p += 1
    if p[0] != c"." and p[0] != c"e" and p[0] != c"E":
        if p - begin > 19 or digits > INT64_MAX:
            return NULL
        return put(r, p, PyLong_FromLongLong(-<long long>digits if negative else <long long>digits))
    if p[0] == c".":
        point = p
        p += 1
        if not is_digit(p[0]):
            return NULL
        while is_digit(p[0]):
            digits = digits * 10 + (p[0] - c"0")
            p += 1
        places = p - point - 1
    if p - begin > 18 or p[0] == c"e" or p[0] == c"E" or FLT_EVAL_METHOD != 0:
        return read_any_float(r, begin, p, negative)
    if digits > <uint64_t>1 << 53:
        return read_any_float(r, begin, p, negative)
    # Both numbers are exact, so the one rounding of IEEE arithmetic gives the nearest double.
    value = <double>digits / POWERS[places]
    return put(r, p, PyFloat_FromDouble(-value if negative else value))


cdef const char* read_any_float(
    Reader* r, const char* begin, const char* p, bint negative
) noexcept:
    """The same by Python's own conversion. An exponent may be at *p*."""
    cdef double value
    cdef char* stopped = NULL
    if p[0] == c"e" or p[0] == c"E":
        p += 1
        if p[0] == c"-" or p[0] == c"+":
            p += 1
        if not is_digit(p[0]):
            return NULL
        while is_digit(p[0]):
            p += 1
    value = PyOS_string_to_double(begin, &stopped, NULL)
    if stopped != p:
        return NULL
    return put(r, p, PyFloat_FromDouble(-value if negative else value))
