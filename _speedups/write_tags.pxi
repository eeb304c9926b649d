# Writing: tags around one plain value: bytes, Markup, UUID and the two common kinds of datetime.

cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef const char* DAYS = b"SunMonTueWedThuFriSat"
cdef const char* MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"
cdef int* MONTH_SHIFTS = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4]
cdef char PAIRS_OF_HEX[512]

for _c, _digit in enumerate(bytes(range(256)).hex().encode()):
    PAIRS_OF_HEX[_c] = _digit

# Where a UUID keeps its number; -1 if this Python's UUID is made in another way.
cdef object _int_slot = UUID.__dict__.get("int")
cdef object _safe_slot = UUID.__dict__.get("is_safe")
cdef Py_ssize_t uuid_int = slot_offset(<PyObject*>_int_slot)
cdef Py_ssize_t uuid_is_safe = slot_offset(<PyObject*>_safe_slot)


cdef bint numbers_convert():
    """Whether this Python keeps its integers as we think it does."""
    cdef uint8_t number[16]
    for n in (0, 1, 2**120 - 1, 2**128 - 1, 0x0123456789ABCDEFFEDCBA9876543210, 5 << 64, 2**150):
        fits = int_to_16(<PyObject*>n, number)
        if fits != (n < 2**128) or fits and number[:16] != n.to_bytes(16, "little"):
            return False
    return True


if UUID.__slots__ != ("int", "is_safe", "__weakref__") or uuid_is_safe < 0 or not numbers_convert():
    uuid_int = -1


cdef char* write_uuid(Writer* w, char* p, PyObject* value) noexcept:
    cdef uint8_t number[16]
    cdef int i
    cdef PyObject* as_int
    if uuid_int < 0:
        return write_odd(w, p, value)
    as_int = slot(value, uuid_int)
    if as_int is NULL or Py_TYPE(as_int) != &PyLong_Type or not int_to_16(as_int, number):
        return write_odd(w, p, value)
    memcpy(p, b'{" u":"', 7)
    for i in range(16):
        memcpy(p + 7 + 2 * i, PAIRS_OF_HEX + 2 * number[15 - i], 2)
    memcpy(p + 39, b'"}', 2)
    return p + 41


cdef char* write_markup(Writer* w, char* p, PyObject* value) noexcept:
    memcpy(p, b'{" m":', 6)
    return close(write_wide_text(w, p + 6, value), c"}", 0)


cdef char* write_bytes(Writer* w, char* p, PyObject* value) noexcept:
    cdef Py_ssize_t n = PyBytes_GET_SIZE(value)
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(value)
    cdef uint8_t rest[3]
    p = reserve(w, p, n // 3 * 4)
    if p is NULL:
        return NULL
    memcpy(p, b'{" b":"', 7)
    p += 7
    while n >= 3:
        write_three_bytes(p, source, BASE64)
        p += 4
        source += 3
        n -= 3
    if n:
        memset(rest, 0, 3)
        memcpy(rest, source, n)
        write_three_bytes(p, rest, BASE64)
        memset(p + 1 + n, c"=", 3 - n)
        p += 4
    memcpy(p, b'"}', 2)
    return p + 2


cdef inline void write_three_bytes(char* p, const uint8_t* source, const char* digits) noexcept:
    """Four digits of one of the two alphabets of base64."""
    cdef uint32_t three = source[0] << 16 | source[1] << 8 | source[2]
    p[0] = digits[three >> 18]
    p[1] = digits[three >> 12 & 63]
    p[2] = digits[three >> 6 & 63]
    p[3] = digits[three & 63]


cdef inline int weekday(int year, int month, int day) noexcept:
    """Days since Sunday, in the Gregorian calendar without end."""
    cdef int shifted = year - (month < 3)
    return (
        shifted + shifted // 4 - shifted // 100 + shifted // 400 + MONTH_SHIFTS[month - 1] + day
    ) % 7


cdef char* write_datetime(Writer* w, char* p, PyObject* value) noexcept:
    """Flask's tag where it holds the value, else this project's; without zone or in UTC."""
    cdef PyObject* zone = PyDateTime_DATE_GET_TZINFO(value)
    cdef bint utc = zone == PyDateTime_TimeZone_UTC
    cdef unsigned int year = PyDateTime_GET_YEAR(value)
    cdef unsigned int month = PyDateTime_GET_MONTH(value)
    cdef unsigned int day = PyDateTime_GET_DAY(value)
    cdef unsigned int micro = PyDateTime_DATE_GET_MICROSECOND(value)
    if not utc and zone != Py_None or PyDateTime_DATE_GET_FOLD(value):
        return write_odd(w, p, value)
    if utc and micro == 0 and year >= 100:
        memcpy(p, b'{" d":"', 7)
        memcpy(p + 7, DAYS + 3 * weekday(year, month, day), 3)
        memcpy(p + 10, b", ", 2)
        write_pair(p + 12, day)
        p[14] = c" "
        memcpy(p + 15, MONTHS + 3 * (month - 1), 3)
        p[18] = c" "
        write_pair(p + 19, year // 100)
        write_pair(p + 21, year % 100)
        p[23] = c" "
        write_clock(p + 24, value)
        memcpy(p + 32, b' GMT"}', 6)
        return p + 38
    memcpy(p, b'{" q:dt":"', 10)
    write_pair(p + 10, year // 100)
    write_pair(p + 12, year % 100)
    p[14] = c"-"
    write_pair(p + 15, month)
    p[17] = c"-"
    write_pair(p + 18, day)
    p[20] = c"T"
    write_clock(p + 21, value)
    p += 29
    if micro:
        p[0] = c"."
        write_pair(p + 1, micro // 10000)
        write_pair(p + 3, micro // 100 % 100)
        write_pair(p + 5, micro % 100)
        p += 7
    if utc:
        memcpy(p, b"+00:00", 6)
        p += 6
    memcpy(p, b'"}', 2)
    return p + 2


cdef inline void write_clock(char* p, PyObject* value) noexcept:
    """Eight bytes: the time of day, to the second."""
    write_pair(p, PyDateTime_DATE_GET_HOUR(value))
    p[2] = c":"
    write_pair(p + 3, PyDateTime_DATE_GET_MINUTE(value))
    p[5] = c":"
    write_pair(p + 6, PyDateTime_DATE_GET_SECOND(value))
