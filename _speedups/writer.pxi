# One value and all that it holds, in one pass. Open containers are on a stack of the writer's
# own, so nesting takes no space on the thread's stack.

cdef int PLAIN = _pure.PLAIN, LIST = _pure.LIST, TUPLE = _pure.TUPLE, SET = _pure.SET
cdef int FROZENSET = _pure.FROZENSET, SHAPE_MAPPING = _pure.MAPPING
cdef int SHAPE_ESCAPED = _pure.ESCAPED, TAGGED = _pure.TAGGED


ctypedef char* (*write_quietly)(Writer*, PyObject*) noexcept


cdef PyObject* write_document(Writer* w, PyObject* value) except NULL:
    cdef char* p
    cdef PyObject* document = NULL
    begin(w)
    # The cast only hides from Cython that this may raise: a try statement around it would cost
    # as much as a small session does.
    p = (<write_quietly><void*>write_all)(w, value)
    if p is NULL:
        return after_error(w, value)
    document = bytes_new(w.start, p - w.start)
    finish(w)
    return document


cdef char* write_all(Writer* w, PyObject* value) except NULL:
    return write_open_containers(w, write_value(w, w.start, value))


cdef PyObject* after_error(Writer* w, PyObject* value) except NULL:
    """Start again, or raise what is pending with its path."""
    cdef char* p
    cdef object error = None
    try:
        try:
            raise_pending()
        except (Restart, Refused) as raised:
            if w.wary or isinstance(raised, MemoryError):
                raise
            # No Python code has run yet. Look through each dict's keys first this time, as the
            # reference does, so that of several errors the same one is found.
            while w.top >= 0:
                drop_frame(w)
            w.wary = True
            p = write_all(w, value)
            return PyBytes_FromStringAndSize(w.start, p - w.start)
    except Refused as refused:
        # Noting the traceback can put a MemoryError in the place of what was caught.
        if not isinstance(refused, Refused):
            raise
        # From the innermost container outward, as if Python's stack unwound.
        while w.top >= 0:
            where = place(w)
            if where is not None:
                refused.path.append(where)
            drop_frame(w)
        error = refused.as_error()
    finally:
        finish(w)
    raise error


cdef place(Writer* w):
    """The step of the path at which the innermost container is."""
    cdef Frame* frame = &w.frames[w.top]
    cdef Py_ssize_t last = frame.position - 1
    if frame.kind == DICT or frame.kind == ESCAPED:
        return None if frame.key is NULL else _pure.segment(<object>frame.key)
    if last < 0:
        return None
    if frame.kind == SEQUENCE:
        return f"[{last}]"
    if frame.kind == ELEMENTS:
        return _pure.SET_ELEMENT
    if frame.kind == MAPPING and last % 2 == 0:
        return _pure.MAP_KEY
    return _pure.segment((<list>frame.owner)[last - last % 2])


# Called through a variable, so that the C compiler does not put all of it into the loops.
cdef char* (*rarer)(Writer*, char*, PyObject*, PyTypeObject*) except NULL
rarer = write_rarer


cdef inline char* write_value(Writer* w, char* p, PyObject* value) except NULL:
    """Write a plain or tagged value, or open a container."""
    if w.asked is NULL or not PySet_Contains(w.asked, <PyObject*>Py_TYPE(value)):
        return write_exact(w, p, value)
    return write_unless_claimed(w, p, value)


cdef inline char* write_exact(Writer* w, char* p, PyObject* value) except NULL:
    """The same for a value that no registered tag claims. The commonest types stay in line.

    There is room for SPARE bytes at *p* less a comma, a short key and a colon, and there is
    again for SPARE bytes behind the value.
    """
    cdef PyTypeObject* kind = Py_TYPE(value)
    if kind == &PyUnicode_Type:
        p = write_text(w, p, value)
    elif kind == &PyLong_Type:
        p = write_int(w, p, value)
    elif value == Py_None:
        memcpy(p, b"null", 4)
        p += 4
    elif value == Py_True:
        memcpy(p, b"true", 4)
        p += 4
    elif value == Py_False:
        memcpy(p, b"false", 5)
        p += 5
    else:
        p = rarer(w, p, value, kind)
    return reserve(w, p, SPARE)


cdef char* write_rarer(Writer* w, char* p, PyObject* value, PyTypeObject* kind) except NULL:
    if kind == &PyDict_Type:
        return open_dict(w, p, value)
    if kind == &PyList_Type:
        return open_list(w, p, value)
    if kind == &PyFloat_Type:
        return write_float(w, p, value)
    if kind == &PyTuple_Type:
        return open_tuple(w, p, value)
    if kind == datetime_type():
        return write_datetime(w, p, value)
    if kind == uuid_type:
        return write_uuid(w, p, value)
    if kind == &PyBytes_Type:
        return write_bytes(w, p, value)
    if kind == markup_type:
        return write_markup(w, p, value)
    return write_other(w, p, value)


cdef inline bint in_hash(Writer* w) noexcept:
    """Whether what is written now must read back as something hashable."""
    return w.top >= 0 and w.frames[w.top].hashed


cdef char* open_dict(Writer* w, char* p, PyObject* value) except NULL:
    cdef Py_ssize_t n = PyDict_Size(value), position = 0
    cdef PyObject* key = NULL
    cdef PyObject* item = NULL
    if in_hash(w):
        refuse(w, unhashable(<object>value))
    if not PyDict_Next(value, &position, &key, &item):
        return write_empty(w, p, c"{", c"}")
    if Py_TYPE(key) != &PyUnicode_Type or w.wary and not all_keys_are_text(value):
        return open_odd_dict(w, p, value)
    # Every built-in tag's key starts with a space.
    if n == 1 and (w.custom or starts_with_space(key)) and PyDict_Contains(w.escaped, key):
        return open_escaped(w, p, <object>key, (<object>key) + "__", <object>item)
    push(w, value, DICT, n, 1, False)
    p = reserve(w, p, 1 + SPARE)
    p[0] = c"{"
    return p + 1


cdef inline char* write_empty(Writer* w, char* p, char opening, char closing) except NULL:
    if w.depth >= MAX_DEPTH:
        refuse(w, TOO_DEEP)
    p = reserve(w, p, 2)
    p[0] = opening
    p[1] = closing
    return p + 2


cdef inline bint starts_with_space(PyObject* text) noexcept:
    return (
        text_is_ascii(text) and text_length(text) > 0 and (<const char*>text_data(text))[0] == c" "
    )


cdef char* open_odd_dict(Writer* w, char* p, PyObject* value) except NULL:
    """A dict with a key that is not exactly a str."""
    held = <object>value
    before_python(w)
    shape, filling = (<object>w.registry).resolve_pairs(held)
    return open_shape(w, p, shape, filling)


cdef char* open_escaped(Writer* w, char* p, key, written, item) except NULL:
    """A dict of one key that would read as a tag."""
    owner = [item]
    push(w, <PyObject*>owner, ESCAPED, 1, 2, False)
    Py_INCREF(<PyObject*>key)
    w.frames[w.top].key = <PyObject*>key
    w.frames[w.top].owns_key = True
    p = write_ascii(w, p, b'{" di":{', 8)
    return write_long_text(w, p, <PyObject*>written)


cdef char* open_list(Writer* w, char* p, PyObject* value) except NULL:
    if in_hash(w):
        refuse(w, unhashable(<object>value))
    if PyList_GET_SIZE(value) == 0:
        return write_empty(w, p, c"[", c"]")
    push(w, value, SEQUENCE, PyList_GET_SIZE(value), 1, False)
    p = reserve(w, p, 1 + SPARE)
    p[0] = c"["
    return p + 1


cdef char* open_tuple(Writer* w, char* p, PyObject* value) except NULL:
    push(w, value, SEQUENCE, PyTuple_GET_SIZE(value), 2, in_hash(w))
    p = reserve(w, p, 7 + SPARE)
    memcpy(p, b'{" t":[', 7)
    return p + 7


cdef char* write_unless_claimed(Writer* w, char* p, PyObject* value) except NULL:
    """A value of an exact type that some registered tag precedes."""
    held = <object>value
    before_python(w)
    found = (<object>w.registry).resolve(held, in_hash(w))
    if found is None:
        return write_exact(w, p, value)
    p = open_shape(w, p, found[0], found[1])
    return reserve(w, p, SPARE)


cdef char* write_other(Writer* w, char* p, PyObject* value) except NULL:
    """A subclass, a rarer type, one that a registered tag wants, or one that is refused."""
    held = <object>value
    before_python(w)
    found = (<object>w.registry).resolve(held, in_hash(w))
    if found is None:
        shape, filling = (<object>w.registry).describe(held)
    else:
        shape, filling = found
    return open_shape(w, p, shape, filling)


cdef char* open_shape(Writer* w, char* p, int shape, filling) except NULL:
    """Write what the registry resolved a value to. Every caller sees to the spare room."""
    cdef PyObject* owner = <PyObject*>filling
    if shape == PLAIN or shape == TAGGED:
        text = _pure.fragment(shape, filling, MAX_DEPTH - w.depth, w.full)
        return write_ascii(w, p, PyBytes_AS_STRING(<PyObject*>text), len(text))
    if shape == LIST:
        push(w, owner, SEQUENCE, PyList_GET_SIZE(owner), 1, False)
        return write_ascii(w, p, b"[", 1)
    if shape == TUPLE:
        push(w, owner, SEQUENCE, PyList_GET_SIZE(owner), 2, in_hash(w))
        return write_ascii(w, p, b'{" t":[', 7)
    if shape == SET or shape == FROZENSET:
        push(w, owner, ELEMENTS, PyList_GET_SIZE(owner), 2, True)
        return write_ascii(w, p, b'{" q:s":[' if shape == SET else b'{" q:f":[', 9)
    if shape == SHAPE_MAPPING:
        push(w, owner, MAPPING, PyList_GET_SIZE(owner), 3, True)
        return write_ascii(w, p, b'{" q:m":[', 9)
    if shape == SHAPE_ESCAPED:
        return open_escaped(w, p, filling[0], filling[1], filling[2])
    push(w, owner, PAIRS, PyList_GET_SIZE(owner), 1, False)
    return write_ascii(w, p, b"{", 1)


cdef char* write_open_containers(Writer* w, char* p) except NULL:
    """Go on with the innermost open container until none is left."""
    cdef Frame* frame
    cdef int top, i
    while w.top >= 0:
        top = w.top
        frame = &w.frames[top]
        if frame.kind == DICT:
            p = write_dict(w, p, frame, top)
        elif frame.kind == SEQUENCE:
            p = write_sequence(w, p, frame, top)
        elif frame.kind == ELEMENTS:
            p = write_elements(w, p, frame, top)
        else:
            p = write_flat(w, p, frame, top)
        if w.top == top:
            # Nothing new was opened, so this one is at its end.
            frame = &w.frames[top]
            p = reserve(w, p, 2 + SPARE)
            p[0] = c"}" if frame.kind == DICT or frame.kind >= PAIRS else c"]"
            p[1] = c"}"
            p += 1 if frame.levels == 1 else 2
            drop_frame(w)
    return p


cdef int refuse_changed(Writer* w) except -1:
    """The innermost container changed. The path ends at it, not at something inside."""
    drop_frame(w)
    return refuse(w, CHANGED)


cdef inline char* write_dict(Writer* w, char* p, Frame* frame, int top) except NULL:
    cdef PyObject* key
    cdef PyObject* item
    if frame.owns_key:
        frame.owns_key = False
        key = frame.key
        frame.key = NULL
        Py_DECREF(key)
    while True:
        if PyDict_Size(frame.owner) != frame.size:
            refuse_changed(w)
        if not PyDict_Next(frame.owner, &frame.position, &key, &item):
            return p
        if frame.left == 0 or Py_TYPE(key) != &PyUnicode_Type:
            if not w.wary:
                raise Restart
            refuse_changed(w)
        if frame.left != frame.size:
            p[0] = c","
            p += 1
        frame.left -= 1
        frame.key = key
        p = write_text(w, p, key)
        p[0] = c":"
        p = write_value(w, p + 1, item)
        if w.top != top:
            return p
        if frame.owns_key:
            frame.owns_key = False
            frame.key = NULL
            Py_DECREF(key)


cdef inline char* write_sequence(Writer* w, char* p, Frame* frame, int top) except NULL:
    cdef bint is_list = Py_TYPE(frame.owner) == &PyList_Type
    cdef PyObject* item
    while True:
        if is_list and PyList_GET_SIZE(frame.owner) != frame.size:
            refuse_changed(w)
        if frame.position == frame.size:
            return p
        if frame.position:
            p[0] = c","
            p += 1
        if is_list:
            item = PyList_GET_ITEM(frame.owner, frame.position)
        else:
            item = PyTuple_GET_ITEM(frame.owner, frame.position)
        frame.position += 1
        p = write_value(w, p, item)
        if w.top != top:
            return p


cdef char* write_flat(Writer* w, char* p, Frame* frame, int top) except NULL:
    """Keys and values from a private list: as an object, as pairs, or one escaped value."""
    cdef PyObject* item
    cdef bint is_key
    while True:
        if frame.kind == MAPPING and frame.position and frame.position % 2 == 0:
            p = write_ascii(w, p, b"]", 1)
        if frame.position == frame.size:
            return p
        item = PyList_GET_ITEM(frame.owner, frame.position)
        is_key = frame.position % 2 == 0 and frame.kind != ESCAPED
        if is_key and frame.position:
            p = write_ascii(w, p, b",", 1)
        if is_key and frame.kind == MAPPING:
            p = write_ascii(w, p, b"[", 1)
        elif not is_key:
            p = write_ascii(w, p, b"," if frame.kind == MAPPING else b":", 1)
        frame.hashed = is_key
        frame.position += 1
        p = reserve(w, p, SPARE)
        if is_key and frame.kind == PAIRS:
            frame.hashed = False
            p = write_long_text(w, p, item)
        else:
            p = write_value(w, p, item)
        if w.top != top:
            return p


cdef char* write_elements(Writer* w, char* p, Frame* frame, int top) except NULL:
    """The elements of a set, sorted by what is written for them."""
    cdef Py_ssize_t i
    while True:
        if frame.size > 1:
            if frame.key is NULL:
                frame.key = PyList_New(0)
                frame.owns_key = True
            else:
                (<list>frame.key).append(
                    take(PyBytes_FromStringAndSize(w.start + frame.left, p - w.start - frame.left))
                )
                p = w.start + frame.left
            frame.left = p - w.start
        if frame.position == frame.size:
            break
        frame.position += 1
        p = reserve(w, p, SPARE)
        p = write_value(w, p, PyList_GET_ITEM(frame.owner, frame.position - 1))
        if w.top != top:
            return p
    if frame.size > 1:
        pieces = <list>frame.key
        pieces.sort()
        for i in range(len(pieces)):
            if i:
                p = write_ascii(w, p, b",", 1)
            piece = pieces[i]
            p = write_ascii(w, p, PyBytes_AS_STRING(<PyObject*>piece), len(piece))
    return p
