# Reading: the usual bodies of Flask's tags, and of " q:dt", straight from the document.
#
# Each function is given the place of the opening brace. What is spelled in any other way it leaves
# alone, and returns the same place: the object is read like any other, and the pure arm decides
# what its tag makes of the body.

cdef object safe_unknown = SafeUUID.unknown


cdef inline const char* read_shortcut(Reader* r, const char* p) noexcept:
    if p[3] == c"u":
        return read_uuid(r, p)
    if p[3] == c"d":
        return read_flask_datetime(r, p)
    if p[3] == c"m":
        return read_markup(r, p)
    if p[3] == c"b":
        return read_bytes(r, p)
    if p[3] == c"q":
        return read_datetime(r, p)
    return p


cdef const char* read_uuid(Reader* r, const char* p) noexcept:
    cdef uint8_t number[16]
    cdef int i, pair, bad = 0
    cdef PyObject* as_int
    cdef PyObject* value
    if uuid_int < 0 or r.end - p < 41 or memcmp(p, b'{" u":"', 7) or memcmp(p + 39, b'"}', 2):
        return p
    for i in range(16):
        # A bad digit is negative, and stays so.
        pair = hex_digit(p[7 + 2 * i]) * 16 | hex_digit(p[8 + 2 * i])
        bad |= pair
        number[15 - i] = <uint8_t>pair
    if bad < 0:
        return p
    as_int = int_from_16(number)
    if as_int is NULL:
        return NULL
    value = allocate(<PyObject*>UUID)
    if value is NULL:
        Py_DECREF(as_int)
        return NULL
    set_slot(value, uuid_int, as_int)
    set_slot(value, uuid_is_safe, Py_NewRef(<PyObject*>safe_unknown))
    return put(r, p + 41, value)


cdef const char* read_markup(Reader* r, const char* p) noexcept:
    cdef PyObject* args
    if r.end - p < 9 or memcmp(p, b'{" m":"', 7):
        return p
    p = read_text(r, p + 7)
    if p is NULL or p[0] != c"}":
        return NULL
    args = PyTuple_New(1)
    if args is NULL:
        return NULL
    r.n -= 1
    PyTuple_SET_ITEM(args, 0, r.values[r.n])
    p = put(r, p + 1, str_new(<PyObject*>Markup, args))
    Py_DECREF(args)
    return p


cdef int8_t BASE64_VALUE[256]
memset(BASE64_VALUE, -1, 256)
for _c in range(64):
    BASE64_VALUE[<unsigned char>BASE64[_c]] = _c


cdef const char* read_bytes(Reader* r, const char* p) noexcept:
    cdef const char* end = p + 7
    cdef Py_ssize_t n
    cdef int padding = 0, i
    cdef uint32_t three
    cdef PyObject* value
    cdef char* to
    if r.end - p < 9 or memcmp(p, b'{" b":"', 7):
        return p
    while BASE64_VALUE[<unsigned char>end[0]] >= 0:
        end += 1
    n = end - p - 7
    while end[0] == c"=" and padding < 2:
        end += 1
        padding += 1
    if end[0] != c'"' or end[1] != c"}" or (n + padding) % 4 != 0:
        return p
    p += 7
    n = (n + padding) // 4 * 3 - padding
    value = PyBytes_FromStringAndSize(NULL, n)
    if value is NULL:
        return NULL
    to = PyBytes_AS_STRING(value)
    while n > 0:
        three = 0
        for i in range(4):
            # What is padded has less than four digits, and "=" adds bits that are not looked at.
            three = three << 6 | BASE64_VALUE[<unsigned char>p[i]] & 63
        for i in range(min(n, 3)):
            to[i] = <char>(three >> (16 - 8 * i))
        to += 3
        p += 4
        n -= 3
    return put(r, end + 2, value)


cdef int8_t HEX_VALUE[256]
memset(HEX_VALUE, -1, 256)
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    for _c, _digit in enumerate(_digits):
        HEX_VALUE[<unsigned char>_digit] = _c


cdef inline int hex_digit(char c) noexcept:
    return HEX_VALUE[<unsigned char>c]


cdef inline int two_digits(const char* p) noexcept:
    if is_digit(p[0]) and is_digit(p[1]):
        return (p[0] - 48) * 10 + p[1] - 48
    return -1


cdef const char* put_datetime(
    Reader* r, const char* p, const char* behind,
    int year, int month, int day, const char* clock, int micro, PyObject* zone,
) noexcept:
    """Put a datetime whose time of day is at *clock*. *p* if there is no such time."""
    cdef PyObject* value
    if clock[2] != c":" or clock[5] != c":":
        return p
    # Digits that are none count as -1, which is refused like day 32.
    value = datetime_new(
        year, month, day, two_digits(clock), two_digits(clock + 3), two_digits(clock + 6), micro,
        zone,
    )
    if value is NULL and PyErr_ExceptionMatches(<PyObject*>ValueError):
        PyErr_Clear()
        return p
    return put(r, behind, value)


cdef const char* read_flask_datetime(Reader* r, const char* p) noexcept:
    """`{" d":"Wed, 01 May 2024 12:00:00 GMT"}`; the name of the day means nothing."""
    cdef int century, year, month = 0
    if r.end - p < 38 or memcmp(p, b'{" d":"', 7) or memcmp(p + 32, b' GMT"}', 6):
        return p
    if not (c"A" <= p[7] <= c"Z" and c"a" <= p[8] <= c"z" and c"a" <= p[9] <= c"z"):
        return p
    if p[10] != c"," or p[11] != c" " or p[14] != c" " or p[18] != c" " or p[23] != c" ":
        return p
    while memcmp(p + 15, MONTHS + 3 * month, 3):
        month += 1
        if month == 12:
            return p
    century = two_digits(p + 19)
    year = two_digits(p + 21)
    # A year below 100 is moved to another century, like a year of two digits.
    if century < 1 or year < 0:
        return p
    return put_datetime(
        r, p, p + 38, century * 100 + year, month + 1, two_digits(p + 12), p + 24, 0,
        PyDateTime_TimeZone_UTC,
    )


cdef const char* read_datetime(Reader* r, const char* p) noexcept:
    """`{" q:dt":"2024-05-01T12:00:00.000001+00:00"}`, microseconds and zone left out or not."""
    cdef int century, year, micro = 0, part, i
    cdef PyObject* zone = Py_None
    cdef const char* behind = p + 29
    if r.end - p < 31 or memcmp(p, b'{" q:dt":"', 10):
        return p
    if p[14] != c"-" or p[17] != c"-" or p[20] != c"T":
        return p
    century = two_digits(p + 10)
    year = two_digits(p + 12)
    if century < 0 or year < 0:
        return p
    if behind[0] == c".":
        behind += 1
        for i in range(3):
            part = two_digits(behind)
            if part < 0:
                return p
            micro = micro * 100 + part
            behind += 2
        if micro == 0:
            return p
    if r.end - behind >= 6 and memcmp(behind, b"+00:00", 6) == 0:
        zone = PyDateTime_TimeZone_UTC
        behind += 6
    if behind[0] != c'"' or behind[1] != c"}":
        return p
    return put_datetime(
        r, p, behind + 2, century * 100 + year, two_digits(p + 15), two_digits(p + 18), p + 21,
        micro, zone,
    )
