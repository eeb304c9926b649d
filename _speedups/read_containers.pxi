# Reading, first part: one value and all that is in it, in one pass.
#
# A function that reads is given a place in the document, puts what it read on a stack, and returns
# the place behind it. It returns NULL with an exception pending if Python raised one, and NULL
# without for all that is malformed or odd: then the pure arm reads the document from the start.

cdef enum:
    USUAL_VALUES = 2048

cdef struct Reader:
    const char* end  # a NUL byte stands here, which ends every loop that looks at single bytes
    PyObject* tags
    bint any_key  # whether a tag's key may be something that does not start with a space
    bint shortcuts  # whether the built-in tags mean what they meant
    int depth  # brackets open
    PyObject** values  # owned: what was read and is not in a container yet
    Py_ssize_t n
    Py_ssize_t room
    uint16_t* units  # where odd strings are decoded; NULL before the first one

# A stack of the usual size that no call is using.
cdef PyObject** spare_values = NULL

cdef object restore = _pure.restore, Malformed = _pure.Malformed


cdef PyObject* read_document(Reader* r, const char* p) noexcept:
    """The value of the document, or NULL as above."""
    global spare_values
    cdef PyObject* value = NULL
    r.depth = 0
    r.n = 0
    r.units = NULL
    r.room = USUAL_VALUES
    r.values = spare_values
    spare_values = NULL
    if r.values is NULL:
        r.values = <PyObject**>PyMem_Malloc(USUAL_VALUES * sizeof(PyObject*))
        if r.values is NULL:
            return PyErr_NoMemory()
    p = read_value(r, p)
    if p is not NULL and past_space(p) == r.end:
        r.n = 0
        value = r.values[0]
    drop(r, 0)
    PyMem_Free(r.units)
    if spare_values is NULL and r.room == USUAL_VALUES:
        spare_values = r.values
    else:
        PyMem_Free(r.values)
    return value


cdef void drop(Reader* r, Py_ssize_t base) noexcept:
    """Give up the values from *base* on."""
    while r.n > base:
        r.n -= 1
        Py_DECREF(r.values[r.n])


cdef inline const char* put(Reader* r, const char* p, PyObject* value) noexcept:
    """Put *value*, which is owned, on the stack. NULL if it is NULL."""
    if value is NULL or r.n == r.room and not more_room(r):
        Py_XDECREF(value)
        return NULL
    r.values[r.n] = value
    r.n += 1
    return p


cdef bint more_room(Reader* r) noexcept:
    cdef PyObject** values = <PyObject**>PyMem_Realloc(
        r.values, 2 * r.room * sizeof(PyObject*)
    )
    if values is NULL:
        PyErr_NoMemory()
        return False
    r.values = values
    r.room *= 2
    return True


cdef inline const char* past_space(const char* p) noexcept:
    while p[0] <= c" " and (p[0] == c" " or p[0] == c"\n" or p[0] == c"\r" or p[0] == c"\t"):
        p += 1
    return p


cdef const char* read_value(Reader* r, const char* p) noexcept:
    cdef char c
    p = past_space(p)
    c = p[0]
    if c == c'"':
        return read_text(r, p + 1)
    if c == c"{":
        return read_braces(r, p)
    if c == c"[":
        return read_items(r, p + 1, False)
    if c == c"-" or is_digit(c):
        return read_number(r, p)
    return read_word(r, p)


cdef const char* read_word(Reader* r, const char* p) noexcept:
    cdef Py_ssize_t left = r.end - p
    if left >= 4 and memcmp(p, b"true", 4) == 0:
        return put(r, p + 4, Py_NewRef(Py_True))
    if left >= 4 and memcmp(p, b"null", 4) == 0:
        return put(r, p + 4, Py_NewRef(Py_None))
    if left >= 5 and memcmp(p, b"false", 5) == 0:
        return put(r, p + 5, Py_NewRef(Py_False))
    return NULL


cdef const char* read_items(Reader* r, const char* p, bint as_tuple) noexcept:
    """The items of an array, and its closing bracket; that of the tag as well for a tuple."""
    cdef Py_ssize_t base = r.n, i
    cdef PyObject* made
    r.depth += 1
    if r.depth > DEEPEST:
        return NULL
    p = past_space(p)
    if p[0] != c"]":
        p -= 1
        while True:
            p = read_value(r, p + 1)
            if p is NULL:
                return NULL
            p = past_space(p)
            if p[0] == c"]":
                break
            if p[0] != c",":
                return NULL
    r.depth -= 1
    if as_tuple and p[1] != c"}":
        return NULL
    made = PyTuple_New(r.n - base) if as_tuple else PyList_New(r.n - base)
    if made is NULL:
        return NULL
    for i in range(base, r.n):
        if as_tuple:
            PyTuple_SET_ITEM(made, i - base, r.values[i])
        else:
            PyList_SET_ITEM(made, i - base, r.values[i])
    r.n = base
    return put(r, p + 1 + as_tuple, made)


cdef const char* read_braces(Reader* r, const char* p) noexcept:
    """A built-in tag as it is usually spelled, or any object."""
    cdef Py_ssize_t base = r.n
    cdef const char* behind = p
    if p[1] == c'"' and p[2] == c" " and r.shortcuts:
        if p[3] == c"t" and r.end - p > 7 and memcmp(p, b'{" t":[', 7) == 0:
            return read_items(r, p + 7, True)
        behind = read_shortcut(r, p)
        if behind != p:
            return behind
    r.depth += 1
    if r.depth > DEEPEST:
        return NULL
    p = past_space(p + 1)
    if p[0] != c"}":
        while True:
            if p[0] != c'"':
                return NULL
            p = read_key(r, p + 1)
            if p is NULL:
                return NULL
            p = past_space(p)
            if p[0] != c":":
                return NULL
            p = read_value(r, p + 1)
            if p is NULL:
                return NULL
            p = past_space(p)
            if p[0] == c"}":
                break
            if p[0] != c",":
                return NULL
            p = past_space(p + 1)
    r.depth -= 1
    return close_object(r, p + 1, base)


cdef const char* close_object(Reader* r, const char* p, Py_ssize_t base) noexcept:
    """Put the dict of the keys and values from *base* on in their place, or what it stands for."""
    cdef Py_ssize_t n = r.n - base
    cdef PyObject** items = r.values + base
    cdef PyObject* made
    cdef PyObject* tag
    if n == 2 and (r.any_key or starts_with_space(items[0])):
        tag = PyDict_GetItemWithError(r.tags, items[0])
        if tag is not NULL:
            return untag(r, p, base, tag)
        if PyErr_Occurred() is not NULL:
            return NULL
    made = dict_of(items, n)
    if made is NULL:
        return NULL
    r.n = base
    if n > 2 and PyDict_GET_SIZE(made) == 1:
        # One key again and again, which may be a tag's.
        Py_DECREF(made)
        return NULL
    return put(r, p, made)


cdef const char* untag(Reader* r, const char* p, Py_ssize_t base, PyObject* tag) noexcept:
    """Put what *tag* makes of the body, the last value, in the place of both from *base* on."""
    cdef PyObject* value
    Py_INCREF(tag)
    value = PyObject_CallFunction(<PyObject*>restore, b"OO", tag, r.values[base + 1])
    Py_DECREF(tag)
    if value is NULL and PyErr_ExceptionMatches(<PyObject*>Malformed):
        PyErr_Clear()
    drop(r, base)
    return put(r, p, value)
