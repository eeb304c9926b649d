# Tags around one plain value: bytes, Markup, UUID and the two common kinds of datetime.

import_datetime()

cdef char PAIRS_OF_HEX[512]
cdef int _b
for _b in range(256):
    PAIRS_OF_HEX[2 * _b] = HEX[_b >> 4]
    PAIRS_OF_HEX[2 * _b + 1] = HEX[_b & 15]

cdef PyTypeObject* markup_type = <PyTypeObject*>Markup
cdef PyTypeObject* uuid_type = <PyTypeObject*>UUID
cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef int* MONTH_SHIFTS = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4]
cdef const char* DAYS = b"SunMonTueWedThuFriSat"
cdef const char* MONTHS = b"JanFebMarAprMayJunJulAugSepOctNovDec"

# Where a UUID keeps its number; -1 if this Python's UUID is made in another way.
cdef object _int_slot = UUID.__dict__.get("int")
cdef object _safe_slot = UUID.__dict__.get("is_safe")
cdef Py_ssize_t uuid_int = slot_offset(<PyObject*>_int_slot)
cdef Py_ssize_t uuid_is_safe = slot_offset(<PyObject*>_safe_slot)
if UUID.__slots__ != ("int", "is_safe", "__weakref__") or uuid_is_safe < 0:
    uuid_int = -1


cdef bint numbers_convert():
    """Whether this Python keeps its integers as we think it does."""
    cdef uint8_t number[16]
    for n in (0, 1, 2**120 - 1, 2**128 - 1, 0x0123456789ABCDEFFEDCBA9876543210, 5 << 64, 2**150):
        fits = int_to_16(<PyObject*>n, number)
        if fits != (n < 2**128) or fits and number[:16] != n.to_bytes(16, "little"):
            return False
    return True


if not numbers_convert():
    uuid_int = -1


cdef inline char* write_tag(Writer* w, char* p, const char* opening, int n) except NULL:
    """Open a tag around a plain value. Leaves room for 64 bytes more."""
    if w.depth >= MAX_DEPTH:
        refuse(w, TOO_DEEP)
    p = reserve(w, p, n + 64)
    memcpy(p, opening, n)
    return p + n


cdef inline char* close_tag(Writer* w, char* p) except NULL:
    p = reserve(w, p, 2)
    p[0] = c'"'
    p[1] = c"}"
    return p + 2


cdef char* write_bytes(Writer* w, char* p, PyObject* value) except NULL:
    cdef Py_ssize_t n = PyBytes_GET_SIZE(value)
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(value)
    cdef unsigned int three
    if n > PY_SSIZE_T_MAX // 4:
        PyErr_NoMemory()
        return NULL
    p = write_tag(w, p, b'{" b":"', 7)
    p = reserve(w, p, n // 3 * 4 + 8)
    while n >= 3:
        three = source[0] << 16 | source[1] << 8 | source[2]
        p[0] = BASE64[three >> 18]
        p[1] = BASE64[three >> 12 & 63]
        p[2] = BASE64[three >> 6 & 63]
        p[3] = BASE64[three & 63]
        p += 4
        source += 3
        n -= 3
    if n:
        three = source[0] << 16
        if n == 2:
            three |= source[1] << 8
        p[0] = BASE64[three >> 18]
        p[1] = BASE64[three >> 12 & 63]
        p[2] = BASE64[three >> 6 & 63] if n == 2 else c"="
        p[3] = c"="
        p += 4
    return close_tag(w, p)


cdef char* write_markup(Writer* w, char* p, PyObject* value) except NULL:
    p = write_tag(w, p, b'{" m":', 6)
    p = write_long_text(w, p, value)
    p = reserve(w, p, 1)
    p[0] = c"}"
    return p + 1


cdef char* write_uuid(Writer* w, char* p, PyObject* value) except NULL:
    cdef uint8_t number[16]
    cdef int i
    cdef PyObject* as_int
    if uuid_int < 0:
        return write_other(w, p, value)
    as_int = slot(value, uuid_int)
    if as_int is NULL or Py_TYPE(as_int) != &PyLong_Type or not int_to_16(as_int, number):
        return write_other(w, p, value)
    p = write_tag(w, p, b'{" u":"', 7)
    for i in range(16):
        memcpy(p + 2 * i, PAIRS_OF_HEX + 2 * number[15 - i], 2)
    p[32] = c'"'
    p[33] = c"}"
    return p + 34


cdef inline int weekday(int year, int month, int day) noexcept:
    """Days since Sunday, in the Gregorian calendar without end."""
    cdef int shifted = year - (month < 3)
    return (
        shifted + shifted // 4 - shifted // 100 + shifted // 400 + MONTH_SHIFTS[month - 1] + day
    ) % 7


cdef char* write_datetime(Writer* w, char* p, PyObject* value) except NULL:
    """Flask's tag where it holds the value, else this project's; without zone or in UTC."""
    cdef PyObject* zone = PyDateTime_DATE_GET_TZINFO(value)
    cdef bint utc = zone == PyDateTime_TimeZone_UTC
    cdef int year = PyDateTime_GET_YEAR(value)
    cdef int month = PyDateTime_GET_MONTH(value)
    cdef int day = PyDateTime_GET_DAY(value)
    cdef unsigned int micro = PyDateTime_DATE_GET_MICROSECOND(value)
    cdef bint flask_holds = utc and micro == 0 and year >= 100
    if not utc and zone != Py_None or w.full and PyDateTime_DATE_GET_FOLD(value):
        return write_other(w, p, value)
    if flask_holds or not w.full:
        p = write_tag(w, p, b'{" d":"', 7)
        memcpy(p, DAYS + 3 * weekday(year, month, day), 3)
        p[3] = c","
        p[4] = c" "
        p = write_pair(p + 5, day)
        p[0] = c" "
        memcpy(p + 1, MONTHS + 3 * (month - 1), 3)
        p[4] = c" "
        p = write_pair(p + 5, year // 100)
        p = write_pair(p, year % 100)
        p[0] = c" "
        p = write_clock(p + 1, value)
        memcpy(p, b' GMT"}', 6)
        return p + 6
    p = write_tag(w, p, b'{" q:dt":"', 10)
    p = write_pair(p, year // 100)
    p = write_pair(p, year % 100)
    p[0] = c"-"
    p = write_pair(p + 1, month)
    p[0] = c"-"
    p = write_pair(p + 1, day)
    p[0] = c"T"
    p = write_clock(p + 1, value)
    if micro:
        p[0] = c"."
        p = write_pair(p + 1, micro // 10000)
        p = write_pair(p, micro // 100 % 100)
        p = write_pair(p, micro % 100)
    if utc:
        memcpy(p, b"+00:00", 6)
        p += 6
    p[0] = c'"'
    p[1] = c"}"
    return p + 2


cdef inline char* write_clock(char* p, PyObject* value) noexcept:
    p = write_pair(p, PyDateTime_DATE_GET_HOUR(value))
    p[0] = c":"
    p = write_pair(p + 1, PyDateTime_DATE_GET_MINUTE(value))
    p[0] = c":"
    return write_pair(p + 1, PyDateTime_DATE_GET_SECOND(value))
