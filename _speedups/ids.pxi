# Session ids: making and checking. Signing them costs what the HMAC costs, in either arm.

cdef object urandom = os.urandom
cdef const char* BASE64URL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
cdef bint IN_BASE64URL[256]

cdef int _i
for _i in range(256):
    IN_BASE64URL[_i] = False
for _i in range(64):
    IN_BASE64URL[<unsigned char>BASE64URL[_i]] = True


def new_sid():
    """A fresh session id: 32 bytes of the operating system's randomness as base64url."""
    # Asked for each time: randomness kept in this process would be the same in a forked child.
    cdef uint8_t random[33]
    cdef bytes made
    cdef PyObject* sid
    cdef char* p
    cdef int i
    if not fill_random(random, 32):
        made = urandom(32)
        memcpy(random, PyBytes_AS_STRING(<PyObject*>made), 32)
    random[32] = 0
    sid = PyUnicode_New(43, 127)
    if sid is NULL:
        raise_pending()
    p = <char*>text_data(sid)
    for i in range(11):
        write_three_bytes(p + 4 * i, random + 3 * i, BASE64URL)
    p[43] = 0  # the last digit is of the padding, in the place of the NUL that ends a str
    return take(sid)


def is_sid(value):
    """Whether *value* is a string with the length and the alphabet of a session id."""
    if not isinstance(value, str):
        return False
    cdef PyObject* text = <PyObject*>value
    if text_ready(text) < 0:
        raise_pending()
    if text_length(text) != 43 or not text_is_ascii(text):
        return False
    cdef const uint8_t* p = <const uint8_t*>text_data(text)
    cdef bint good = True
    cdef int i
    for i in range(43):
        good &= IN_BASE64URL[p[i]]
    return good
