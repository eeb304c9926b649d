# JSON numbers to Python numbers.

from libc.math cimport INFINITY, NAN


cdef inline bint is_digit(char c) noexcept:
    return c"0" <= c <= c"9"


cdef inline PyObject* read_number(Reader* r) except NULL:
    """Read the number at r.p: what JSON allows, and -Infinity."""
    cdef const char* begin = r.p
    cdef const char* p = begin
    cdef uint64_t digits = 0
    cdef int n_digits = 0, places = 0
    cdef int64_t exponent = 0
    cdef bint negative = p[0] == c"-", shrinks, small_exponent = True
    cdef double value
    cdef char* stopped = NULL
    if negative:
        p += 1
    if p[0] == c"0":
        p += 1
        if is_digit(p[0]):
            fail(invalid_json)
    elif is_digit(p[0]):
        while is_digit(p[0]):
            if n_digits < 18:
                digits = digits * 10 + (p[0] - c"0")
            n_digits += 1 if n_digits < 1000 else 0
            p += 1
    elif negative and r.end - p >= 8 and memcmp(p, b"Infinity", 8) == 0:
        r.p = p + 8
        return PyFloat_FromDouble(-INFINITY)
    else:
        fail(invalid_json)
    if p[0] != c"." and p[0] != c"e" and p[0] != c"E":
        r.p = p
        if n_digits <= 18:
            return PyLong_FromLongLong(-<long long>digits if negative else <long long>digits)
        return read_big_int(begin, p)
    if p[0] == c".":
        p += 1
        if not is_digit(p[0]):
            fail(invalid_json)
        while is_digit(p[0]):
            if n_digits < 18:
                digits = digits * 10 + (p[0] - c"0")
                places += 1
            # Zeros before the first other digit cost no precision, but they do count as places.
            n_digits += 1 if digits and n_digits < 1000 else 0
            if places > 300:
                small_exponent = False
                places = 300
            p += 1
    if p[0] == c"e" or p[0] == c"E":
        p += 1
        shrinks = p[0] == c"-"
        if p[0] == c"-" or p[0] == c"+":
            p += 1
        if not is_digit(p[0]):
            fail(invalid_json)
        while is_digit(p[0]):
            if exponent < 10000:
                exponent = exponent * 10 + (p[0] - c"0")
            p += 1
        if shrinks:
            exponent = -exponent
    r.p = p
    exponent -= places
    # Both factors are exact, so the one rounding of IEEE arithmetic gives the nearest double.
    if (
        small_exponent and n_digits < 18 and digits <= <uint64_t>1 << 53
        and -22 <= exponent <= 22 and FLT_EVAL_METHOD == 0
    ):
        value = <double>digits
        if exponent < 0:
            value /= POWERS[-exponent]
        else:
            value *= POWERS[exponent]
    else:
        value = PyOS_string_to_double(begin + negative, &stopped, NULL)
    return PyFloat_FromDouble(-value if negative else value)


cdef PyObject* read_big_int(const char* begin, const char* end) except NULL:
    """More digits than fit a machine word; Python limits how many there may be."""
    cdef bytes digits = begin[: end - begin]  # with a NUL behind, as the parser wants it
    cdef PyObject* value = NULL
    try:
        value = PyLong_FromString(digits, NULL, 10)
    except ValueError:
        pass
    if value is NULL:
        fail(invalid_json)
    return value
