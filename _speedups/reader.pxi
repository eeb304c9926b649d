# A document and all that is in it, in one pass. Open containers are on a stack of the reader's
# own, so nesting takes no space on the thread's stack, and the values of an open container are
# on another, so that a list is built when its length is known.

cdef enum:
    ARRAY, TUPLE_ARRAY, OBJECT
    SHARED_VALUES = 2048

cdef PyObject* shared_values[SHARED_VALUES]
cdef Open shared_open[MAX_DEPTH]
cdef bint shared_taken = False
cdef object too_deep_to_read = f"nested deeper than {MAX_DEPTH} levels"
cdef object restore = _pure.restore
cdef object Malformed = _pure._Malformed
cdef object tuple_key = " t"


ctypedef PyObject* (*read_quietly)(Reader*) noexcept
ctypedef int (*fail_quietly)(object) noexcept


cdef PyObject* read_document(Reader* r) except NULL:
    """The value of the whole document. Sets r.malformed_tag if a tag's body is refused."""
    global shared_taken
    cdef PyObject* value = NULL
    r.p = r.start
    r.n_values = 0
    r.top = -1
    r.depth = 0
    r.malformed_tag = False
    r.shared = not shared_taken
    if r.shared:
        shared_taken = True
        r.values = shared_values
        r.open = shared_open
        r.room = SHARED_VALUES
    else:
        r.values = <PyObject**>PyMem_Malloc(SHARED_VALUES * sizeof(PyObject*))
        r.open = <Open*>PyMem_Malloc(MAX_DEPTH * sizeof(Open))
        r.room = SHARED_VALUES
    if r.values is NULL or r.open is NULL:
        PyErr_NoMemory()
    else:
        # See write_document for the cast.
        value = (<read_quietly><void*>read_value)(r)
        if value is not NULL:
            r.p = past_space(r.p)
            if r.p != r.end:
                Py_DECREF(value)
                value = NULL
                (<fail_quietly><void*>fail)(invalid_json)
    # Dropping a value can run Python code that uses the codec again, so each is taken off the
    # stack first, and the space is given back last.
    while r.n_values > 0:
        r.n_values -= 1
        Py_DECREF(r.values[r.n_values])
    if r.values != shared_values:
        PyMem_Free(r.values)
    if r.shared:
        shared_taken = False
    else:
        PyMem_Free(r.open)
    return value


cdef int more_room(Reader* r) noexcept:
    cdef PyObject** values = NULL if r.values == shared_values else r.values
    values = <PyObject**>PyMem_Realloc(values, 2 * r.room * sizeof(PyObject*))
    if values is NULL:
        PyErr_NoMemory()
        return -1
    if r.values == shared_values:
        memcpy(values, r.values, r.room * sizeof(PyObject*))
    r.values = values
    r.room *= 2
    return 0


cdef inline int keep(Reader* r, PyObject* value) except -1:
    """Put a value, whose reference is taken over, on the stack."""
    if r.n_values == r.room:
        if more_room(r) < 0:
            Py_DECREF(value)
            return -1
    r.values[r.n_values] = value
    r.n_values += 1
    return 0


cdef inline int enter(Reader* r, int kind, int levels) except -1:
    if r.depth + levels > MAX_DEPTH:
        fail(too_deep_to_read)
    r.depth += levels
    r.top += 1
    r.open[r.top].base = r.n_values
    r.open[r.top].kind = kind
    return 0


cdef inline const char* past_space(const char* p) noexcept:
    while p[0] == c" " or p[0] == c"\n" or p[0] == c"\r" or p[0] == c"\t":
        p += 1
    return p


cdef inline const char* read_member(Reader* r, const char* p) except NULL:
    """Read a key and its colon at *p*; where its value starts."""
    if p[0] != c'"':
        p = past_space(p)
        if p[0] != c'"':
            fail(invalid_json)
    r.p = p + 1
    keep(r, read_key(r))
    p = r.p
    if p[0] != c":":
        p = past_space(p)
        if p[0] != c":":
            fail(invalid_json)
    return p + 1


cdef PyObject* read_value(Reader* r) except NULL:
    cdef PyObject* value
    cdef const char* p = r.p
    cdef char c
    cdef bint in_object
    while True:
        # Here a value is expected.
        c = p[0]
        if c <= c" ":
            p = past_space(p)
            c = p[0]
        if c == c'"':
            r.p = p + 1
            value = read_text(r)
            p = r.p
        elif c == c"{":
            value = Py_None
            if p[1] == c'"' and p[2] == c" " and r.shortcuts:
                if r.end - p > 7 and memcmp(p + 3, b't":[', 4) == 0:
                    enter(r, TUPLE_ARRAY, 2)
                    p = past_space(p + 7)
                    if p[0] != c"]":
                        continue
                    r.p = p + 1
                    value = close_array(r)
                    p = r.p
                else:
                    if r.depth >= MAX_DEPTH:
                        fail(too_deep_to_read)
                    r.p = p
                    value = read_shortcut(r)
                    p = r.p
            if value == Py_None:
                enter(r, OBJECT, 1)
                p += 1
                if p[0] != c'"':
                    p = past_space(p)
                if p[0] != c"}":
                    p = read_member(r, p)
                    continue
                p += 1
                value = close_object(r)
        elif c == c"[":
            enter(r, ARRAY, 1)
            p = past_space(p + 1)
            if p[0] != c"]":
                continue
            r.p = p + 1
            value = close_array(r)
            p = r.p
        else:
            r.p = p
            value = read_number(r) if c == c"-" or is_digit(c) else read_word(r)
            p = r.p
        # Here a value was read: it belongs to the innermost open container.
        while True:
            if r.top < 0:
                r.p = p
                return value
            keep(r, value)
            in_object = r.open[r.top].kind == OBJECT
            c = p[0]
            if c <= c" ":
                p = past_space(p)
                c = p[0]
            if c == c",":
                p += 1
                if in_object:
                    p = read_member(r, p)
                break
            if c != (c"}" if in_object else c"]"):
                fail(invalid_json)
            if in_object:
                p += 1
                value = close_object(r)
            else:
                r.p = p + 1
                value = close_array(r)
                p = r.p


cdef PyObject* read_word(Reader* r) except NULL:
    cdef PyObject* value = NULL
    cdef const char* p = r.p
    cdef Py_ssize_t left = r.end - p
    if left >= 4 and memcmp(p, b"true", 4) == 0:
        r.p = p + 4
        value = Py_True
    elif left >= 4 and memcmp(p, b"null", 4) == 0:
        r.p = p + 4
        value = Py_None
    elif left >= 5 and memcmp(p, b"false", 5) == 0:
        r.p = p + 5
        value = Py_False
    elif left >= 3 and memcmp(p, b"NaN", 3) == 0:
        r.p = p + 3
        return PyFloat_FromDouble(NAN)
    elif left >= 8 and memcmp(p, b"Infinity", 8) == 0:
        r.p = p + 8
        return PyFloat_FromDouble(INFINITY)
    else:
        fail(invalid_json)
    Py_INCREF(value)
    return value


cdef inline void leave(Reader* r, int levels) noexcept:
    r.n_values = r.open[r.top].base
    r.top -= 1
    r.depth -= levels


cdef PyObject* close_array(Reader* r) except NULL:
    """The list or tuple that ends at r.p."""
    cdef Py_ssize_t base = r.open[r.top].base, i
    cdef Py_ssize_t n = r.n_values - base
    cdef PyObject** values = r.values + base
    cdef PyObject* value
    if r.open[r.top].kind == TUPLE_ARRAY:
        if r.p[0] != c"}":
            return reopen_as_object(r)
        r.p += 1
        value = PyTuple_New(n)
        for i in range(n):
            PyTuple_SET_ITEM(value, i, values[i])
        leave(r, 2)
        return value
    value = PyList_New(n)
    for i in range(n):
        PyList_SET_ITEM(value, i, values[i])
    leave(r, 1)
    return value


cdef PyObject* reopen_as_object(Reader* r) except NULL:
    """What started as a tuple's tag has something behind the list: space, or another key.

    The list becomes the first value of an open object, whose end decides what it is.
    """
    cdef PyObject* value
    r.open[r.top].kind = ARRAY
    value = close_array(r)
    # Two levels were entered, close_array left one, and the object takes the other.
    r.top += 1
    r.open[r.top].base = r.n_values
    r.open[r.top].kind = OBJECT
    Py_INCREF(<PyObject*>tuple_key)
    if r.n_values == r.room and more_room(r) < 0:
        Py_DECREF(value)
        Py_DECREF(<PyObject*>tuple_key)
        return NULL
    keep(r, <PyObject*>tuple_key)
    return value


cdef PyObject* close_object(Reader* r) except NULL:
    """The dict that ends at r.p, or what it stands for if it is a tag."""
    cdef Py_ssize_t base = r.open[r.top].base, i
    cdef Py_ssize_t n = r.n_values - base
    cdef PyObject** values = r.values + base
    cdef PyObject* made = dict_for(n // 2)
    cdef PyObject* key = NULL
    cdef PyObject* tag
    for i in range(0, n, 2):
        if PyDict_SetItem(made, values[i], values[i + 1]) < 0:
            Py_DECREF(made)
            return NULL
    if n == 2 or n > 2 and PyDict_Size(made) == 1:
        key = values[0]
        if r.any_key or starts_with_space(key):
            tag = PyDict_GetItemWithError(r.tags, key)
            if tag is not NULL:
                return untag(r, made, tag)
            if PyErr_Occurred() is not NULL:
                Py_DECREF(made)
                return NULL
    for i in range(n):
        Py_DECREF(values[i])
    leave(r, 1)
    return made


cdef PyObject* untag(Reader* r, PyObject* tagged, PyObject* raw_tag) except NULL:
    """What a tag makes of the body in the dict *tagged*, whose reference is taken over."""
    cdef dict held = take(tagged)
    cdef Py_ssize_t base = r.open[r.top].base, i
    tag = <object>raw_tag
    for i in range(base, r.n_values):
        Py_DECREF(r.values[i])
    leave(r, 1)
    for body in held.values():
        break
    try:
        value = restore(tag, body)
    except Malformed:
        r.malformed_tag = True
        raise
    Py_INCREF(<PyObject*>value)
    return <PyObject*>value
