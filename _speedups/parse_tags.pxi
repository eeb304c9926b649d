# The canonical bodies of Flask's tags, and the common ones of " q:dt", straight from the document.
#
# Each function looks at what follows the opening brace at r.p. It returns the value and moves r.p
# behind the closing brace, or returns Py_None, borrowed, and leaves r.p alone: then the object is
# read like any other, and the reference decides what its tag means.

cdef object safe_unknown = SafeUUID.unknown
cdef int8_t BASE64_VALUE[256]

cdef int _j
for _j in range(256):
    BASE64_VALUE[_j] = -1
for _j in range(64):
    BASE64_VALUE[<unsigned char>BASE64[_j]] = _j


cdef inline PyObject* read_shortcut(Reader* r) except NULL:
    cdef const char* p = r.p
    cdef char first = p[3]
    if first == c"u":
        return read_uuid(r, p)
    if first == c"d":
        return read_flask_datetime(r, p)
    if first == c"m":
        return read_markup(r, p)
    if first == c"b":
        return read_bytes(r, p)
    if first == c"q":
        return read_datetime(r, p)
    return Py_None


cdef PyObject* read_uuid(Reader* r, const char* p) except NULL:
    cdef uint8_t number[16]
    cdef int i, pair, bad = 0
    cdef PyObject* as_int
    cdef PyObject* value
    if uuid_int < 0 or r.end - p < 41 or memcmp(p, b'{" u":"', 7) != 0:
        return Py_None
    p += 7
    for i in range(16):
        # A bad digit is negative, and stays so.
        pair = hex_digit(p[2 * i]) * 16 | hex_digit(p[2 * i + 1])
        bad |= pair
        number[15 - i] = <uint8_t>pair
    p += 32
    if bad < 0 or p[0] != c'"' or p[1] != c"}":
        return Py_None
    as_int = int_from_16(number)
    value = allocate(<PyObject*>uuid_type)
    if value is NULL:
        Py_DECREF(as_int)
        return NULL
    set_slot(value, uuid_int, as_int)
    Py_INCREF(<PyObject*>safe_unknown)
    set_slot(value, uuid_is_safe, <PyObject*>safe_unknown)
    r.p = p + 2
    return value


cdef PyObject* read_markup(Reader* r, const char* p) except NULL:
    cdef const char* behind = r.p
    cdef object text
    if r.end - p < 9 or memcmp(p, b'{" m":"', 7) != 0:
        return Py_None
    r.p = p + 7
    text = take(read_text(r))
    if r.p[0] != c"}":
        r.p = behind
        return Py_None
    r.p += 1
    args = (text,)
    return str_new(<PyObject*>markup_type, <PyObject*>args)


cdef PyObject* read_bytes(Reader* r, const char* p) except NULL:
    cdef const char* end
    cdef Py_ssize_t n
    cdef int padding = 0, a, b, c, d
    cdef PyObject* value
    cdef uint8_t* to
    if r.end - p < 9 or memcmp(p, b'{" b":"', 7) != 0:
        return Py_None
    p += 7
    end = p
    while BASE64_VALUE[<unsigned char>end[0]] >= 0:
        end += 1
    n = end - p
    while end[0] == c"=" and padding < 2:
        end += 1
        padding += 1
    if end[0] != c'"' or end[1] != c"}" or (n + padding) % 4 != 0:
        return Py_None
    n = (n + padding) // 4 * 3 - padding
    value = PyBytes_FromStringAndSize(NULL, n)
    to = <uint8_t*>PyBytes_AS_STRING(value)
    while n > 0:
        a = BASE64_VALUE[<unsigned char>p[0]]
        b = BASE64_VALUE[<unsigned char>p[1]]
        c = BASE64_VALUE[<unsigned char>p[2]]
        d = BASE64_VALUE[<unsigned char>p[3]]
        to[0] = <uint8_t>(a << 2 | b >> 4)
        if n > 1:
            to[1] = <uint8_t>((b & 15) << 4 | c >> 2)
        if n > 2:
            to[2] = <uint8_t>((c & 3) << 6 | d)
        to += 3
        p += 4
        n -= 3
    r.p = end + 2
    return value


cdef inline int two_digits(const char* p) noexcept:
    if is_digit(p[0]) and is_digit(p[1]):
        return (p[0] - 48) * 10 + p[1] - 48
    return CANNOT


cdef inline int days_in_month(int year, int month) noexcept:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


cdef PyObject* datetime_or_none(
    int year, int month, int day, const char* clock, int micro, PyObject* zone
) except NULL:
    """A datetime whose time of day is at *clock*, or Py_None if there is no such time."""
    cdef int hour = two_digits(clock), minute, second
    if hour < 0 or hour > 23 or clock[2] != c":":
        return Py_None
    minute = two_digits(clock + 3)
    if minute < 0 or minute > 59 or clock[5] != c":":
        return Py_None
    second = two_digits(clock + 6)
    if second < 0 or second > 59 or day < 1 or day > days_in_month(year, month):
        return Py_None
    return datetime_new(year, month, day, hour, minute, second, micro, zone)


cdef PyObject* read_flask_datetime(Reader* r, const char* p) except NULL:
    """`{" d":"Wed, 01 May 2024 12:00:00 GMT"}`; the name of the day means nothing."""
    cdef int day, century, year, month = 0
    cdef PyObject* value
    if r.end - p < 38 or memcmp(p, b'{" d":"', 7) != 0 or memcmp(p + 32, b' GMT"}', 6) != 0:
        return Py_None
    p += 7
    if not (c"A" <= p[0] <= c"Z" and c"a" <= p[1] <= c"z" and c"a" <= p[2] <= c"z"):
        return Py_None
    if p[3] != c"," or p[4] != c" " or p[7] != c" " or p[11] != c" " or p[16] != c" ":
        return Py_None
    while memcmp(p + 8, MONTHS + 3 * month, 3) != 0:
        month += 1
        if month == 12:
            return Py_None
    day = two_digits(p + 5)
    century = two_digits(p + 12)
    year = two_digits(p + 14)
    # A year below 100 is moved to another century, like a year of two digits.
    if century < 1 or year < 0:
        return Py_None
    value = datetime_or_none(
        century * 100 + year, month + 1, day, p + 17, 0, PyDateTime_TimeZone_UTC
    )
    if value != Py_None:
        r.p = p + 31
    return value


cdef PyObject* read_datetime(Reader* r, const char* p) except NULL:
    """`{" q:dt":"2024-05-01T12:00:00.000001+00:00"}`, microseconds and zone left out or not."""
    cdef int century, year, month, day, micro = 0, part, i
    cdef PyObject* zone = Py_None
    cdef PyObject* value
    cdef const char* behind
    if r.end - p < 31 or memcmp(p, b'{" q:dt":"', 10) != 0:
        return Py_None
    p += 10
    century = two_digits(p)
    year = two_digits(p + 2)
    month = two_digits(p + 5)
    day = two_digits(p + 8)
    if century < 0 or year < 0 or century + year == 0 or month < 1 or month > 12:
        return Py_None
    if p[4] != c"-" or p[7] != c"-" or p[10] != c"T":
        return Py_None
    behind = p + 19
    if behind[0] == c".":
        behind += 1
        for i in range(3):
            part = two_digits(behind)
            if part < 0:
                return Py_None
            micro = micro * 100 + part
            behind += 2
        if micro == 0:
            return Py_None
    if r.end - behind >= 6 and memcmp(behind, b"+00:00", 6) == 0:
        zone = PyDateTime_TimeZone_UTC
        behind += 6
    if behind[0] != c'"' or behind[1] != c"}":
        return Py_None
    value = datetime_or_none(century * 100 + year, month, day, p + 11, micro, zone)
    if value != Py_None:
        r.p = behind + 2
    return value
