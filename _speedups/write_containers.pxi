# Writing, first part: one value and all that it holds, in one pass into one buffer.
#
# A function that writes is given the place to write at, and returns the place behind what it
# wrote, or NULL with an exception pending. What is not written here is odd, and the pure arm
# writes it, with all that is in it.
#
# ROOM bytes are free where a container or one of its items begins. What writes as many bytes as
# its value has makes room for these, and leaves ROOM free less a quote. So nothing else looks.

cdef enum:
    ROOM = 128  # for brackets, a short key, a colon, any value of limited size and a comma
    USUAL_SIZE = 65536
    DEEPEST = 64  # brackets open at once; what is deeper is odd

cdef struct Step:
    PyObject* key  # strong; NULL for a place in a list or tuple
    Py_ssize_t index

cdef struct Writer:
    PyObject* registry
    PyObject* escaped
    bint any_key  # whether keys that do not start with a space may have to be escaped
    char* start
    char* limit  # ROOM bytes before the end of the buffer
    int depth  # brackets open
    Step path[DEEPEST]  # where a value was refused, innermost first
    int steps

# A buffer of the usual size that no call is using.
cdef char* spare_buffer = NULL

cdef object encode = _pure.encode, Refused = _pure.Refused, CHANGED = _pure.CHANGED

# Any dict will do to see whether the tables of dicts are what we think.
cdef dict _sample = {"key": None}
probe_keys(<PyObject*>_sample, <PyObject*>"key", Py_None)


cdef PyObject* write_document(Writer* w, PyObject* value) noexcept:
    """The document of *value*, or NULL with an exception pending and perhaps a path."""
    global spare_buffer
    cdef PyObject* document = NULL
    cdef char* p
    w.depth = 0
    w.steps = 0
    w.start = spare_buffer if spare_buffer is not NULL else <char*>PyMem_Malloc(USUAL_SIZE)
    spare_buffer = NULL
    if w.start is NULL:
        PyErr_NoMemory()
        return NULL
    w.limit = w.start + USUAL_SIZE - ROOM
    p = write_value(w, w.start, value)
    if p is not NULL:
        document = PyBytes_FromStringAndSize(w.start, p - w.start)
    if spare_buffer is NULL and w.limit == w.start + USUAL_SIZE - ROOM:
        spare_buffer = w.start
    else:
        PyMem_Free(w.start)
    return document


cdef raise_refused(Writer* w):
    """Raise what is pending, with the path to the value that was refused."""
    cdef object error = None
    cdef int i
    try:
        raise_pending()
    except Refused as refused:
        # Noting the traceback can put a MemoryError in the place of what was caught.
        if not isinstance(refused, Refused):
            raise
        for i in range(w.steps):
            refused.path.append(
                f"[{w.path[i].index}]" if w.path[i].key is NULL
                else _pure.segment(<object>w.path[i].key)
            )
        error = refused.as_error()
    finally:
        for i in range(w.steps):
            Py_XDECREF(w.path[i].key)
    # Raised out here, so that it drags along no exception that holds the session.
    raise error


cdef char* grow(Writer* w, char* p, Py_ssize_t wanted) noexcept:
    """Move to a buffer in which *wanted* bytes and ROOM are free."""
    cdef Py_ssize_t used = p - w.start, size = 0
    cdef char* grown = NULL
    if wanted < PY_SSIZE_T_MAX // 4 - used:
        size = 2 * (used + wanted + ROOM)
        grown = <char*>PyMem_Realloc(w.start, size)
    if grown is NULL:
        PyErr_NoMemory()
        return NULL
    w.start = grown
    w.limit = grown + size - ROOM
    return grown + used


cdef inline char* reserve(Writer* w, char* p, Py_ssize_t wanted) noexcept:
    """Where to write, with *wanted* bytes and ROOM free."""
    return p if w.limit - p >= wanted else grow(w, p, wanted)


cdef struct Way:
    PyTypeObject* kind
    char* (*write)(Writer*, char*, PyObject*) noexcept

# How values of the rarer types are written, the commoner ones first.
cdef Way WAYS[8]
WAYS[0] = Way(&PyDict_Type, write_dict)
WAYS[1] = Way(&PyList_Type, write_items)
WAYS[2] = Way(&PyFloat_Type, write_float)
WAYS[3] = Way(&PyTuple_Type, write_items)
WAYS[4] = Way(<PyTypeObject*>UUID, write_uuid)
WAYS[5] = Way(datetime_type(), write_datetime)
WAYS[6] = Way(<PyTypeObject*>Markup, write_markup)
WAYS[7] = Way(&PyBytes_Type, write_bytes)


cdef inline char* write_value(Writer* w, char* p, PyObject* value) noexcept:
    """The commonest types in line, all others by the table."""
    cdef PyTypeObject* kind = Py_TYPE(value)
    cdef int i
    if kind == &PyUnicode_Type:
        return write_text(w, p, value)
    if kind == &PyLong_Type:
        return write_int(w, p, value)
    if value == Py_True:
        memcpy(p, b"true", 4)
        return p + 4
    if value == Py_False:
        memcpy(p, b"false", 5)
        return p + 5
    if value == Py_None:
        memcpy(p, b"null", 4)
        return p + 4
    for i in range(8):
        if WAYS[i].kind == kind:
            return WAYS[i].write(w, p, value)
    return write_odd(w, p, value)


cdef char* write_odd(Writer* w, char* p, PyObject* value) noexcept:
    """A rarer type, a subclass, a tag of the application, or what will be refused.

    The only place where Python code runs, which may change every container that is open.
    """
    cdef PyObject* piece = PyObject_CallFunction(
        <PyObject*>encode, b"OOi", w.registry, value, w.depth
    )
    cdef Py_ssize_t n
    if piece is NULL:
        return NULL
    n = PyBytes_GET_SIZE(piece)
    p = reserve(w, p, n)
    if p is not NULL:
        memcpy(p, PyBytes_AS_STRING(piece), n)
        p += n
    Py_DECREF(piece)
    return p


cdef char* write_dict(Writer* w, char* p, PyObject* mapping) noexcept:
    cdef Py_ssize_t size = PyDict_GET_SIZE(mapping), left = size, position = 0
    cdef PyObject* key
    cdef PyObject* item
    if w.depth == DEEPEST or not has_plain_keys(w, mapping):
        return write_odd(w, p, mapping)
    p = reserve(w, p, 0)
    if p is NULL:
        return NULL
    w.depth += 1
    Py_INCREF(mapping)
    p[0] = c"{"
    p += 1
    while PyDict_Next(mapping, &position, &key, &item):
        if left == 0 or Py_TYPE(key) != &PyUnicode_Type:
            p = changed()
            break
        left -= 1
        p = write_text(w, p, key)
        if p is NULL:
            break
        p[0] = c":"
        p = write_value(w, p + 1, item)
        if p is NULL:
            # Python code may have run. If it changed the dict, this is another key, or none.
            position -= 1
            if PyDict_Next(mapping, &position, &key, &item):
                note(w, key, 0)
            break
        if PyDict_GET_SIZE(mapping) != size:
            p = changed()
            break
        p[0] = c","
        p = reserve(w, p + 1, 0)
        if p is NULL:
            break
    Py_DECREF(mapping)
    w.depth -= 1
    return close(p, c"}", size)


cdef inline char* close(char* p, char bracket, Py_ssize_t size) noexcept:
    """Put a bracket in the place of the last comma, if there was an item."""
    if p is NULL:
        return NULL
    if size:
        p -= 1
    p[0] = bracket
    return p + 1


cdef bint has_plain_keys(Writer* w, PyObject* mapping) noexcept:
    """Whether all keys are exact strings, and do not make a dict that would read as a tag."""
    cdef Py_ssize_t position = 0
    cdef PyObject* key = NULL
    cdef PyObject* item
    if PyDict_GET_SIZE(mapping) == 1 or not has_text_keys(mapping):
        while PyDict_Next(mapping, &position, &key, &item):
            if Py_TYPE(key) != &PyUnicode_Type:
                return False
    if PyDict_GET_SIZE(mapping) != 1 or not (w.any_key or starts_with_space(key)):
        return True
    # Not a plain key if the look-up fails: then the pure arm meets the error again.
    if PyDict_GetItemWithError(w.escaped, key) is NULL and PyErr_Occurred() is NULL:
        return True
    PyErr_Clear()
    return False


cdef inline bint starts_with_space(PyObject* text) noexcept:
    return text_is_compact_ascii(text) and compact_data(text)[0] == c" "


cdef char* write_items(Writer* w, char* p, PyObject* items) noexcept:
    """A list or a tuple."""
    cdef Py_ssize_t size = PySequence_Fast_GET_SIZE(items), i
    cdef bint is_tuple = Py_TYPE(items) == &PyTuple_Type
    if w.depth + is_tuple >= DEEPEST:
        return write_odd(w, p, items)
    p = reserve(w, p, 0)
    if p is NULL:
        return NULL
    w.depth += 1 + is_tuple
    Py_INCREF(items)
    memcpy(p, b'{" t":[' if is_tuple else b"[......", 7)
    p += 7 if is_tuple else 1
    for i in range(size):
        p = write_value(w, p, PySequence_Fast_GET_ITEM(items, i))
        if p is NULL:
            note(w, NULL, i)
            break
        if PySequence_Fast_GET_SIZE(items) != size:
            p = changed()
            break
        p[0] = c","
        p = reserve(w, p + 1, 0)
        if p is NULL:
            break
    Py_DECREF(items)
    w.depth -= 1 + is_tuple
    p = close(p, c"]", size)
    return close(p, c"}", 0) if is_tuple else p


cdef char* changed() noexcept:
    PyErr_SetObject(<PyObject*>Refused, <PyObject*>CHANGED)
    return NULL


cdef void note(Writer* w, PyObject* key, Py_ssize_t index) noexcept:
    """Note a step of the path to the value that was refused: a key, or the index if it is NULL."""
    w.path[w.steps].key = NULL if key is NULL else Py_NewRef(key)
    w.path[w.steps].index = index
    w.steps += 1
