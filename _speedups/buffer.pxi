# The writer's state: where the document grows, and which containers are open.

cdef enum:
    SCRATCH = 65536
    SPARE = 96  # room that every value leaves behind it for the next comma, key and short value
    FRAMES = 24  # nearly every session fits
    MAX_DEPTH = 700

assert MAX_DEPTH == _pure.MAX_DEPTH

cdef enum Kind:
    DICT, SEQUENCE, ELEMENTS, MAPPING, PAIRS, ESCAPED

cdef struct Frame:
    PyObject* owner  # strong: the container, or a private list of what it holds
    PyObject* key  # where the writer is, strong if owns_key is set; of ELEMENTS, what it wrote
    Py_ssize_t position
    Py_ssize_t size
    Py_ssize_t left  # of DICT, keys to come; of ELEMENTS, where the current one started
    uint8_t kind
    uint8_t levels
    bint owns_key
    bint hashed

cdef struct Writer:
    PyObject* registry
    PyObject* asked
    PyObject* escaped
    bint full
    bint custom
    bint wary  # whether Python code has run, or dicts with keys of several types are known
    bint scratch  # whether the document is in the shared scratch space
    char* start
    char* end
    Frame* frames
    int top
    int room  # of frames
    int depth
    Frame first_frames[FRAMES]

# One scratch space serves every call that finds it free, which under the GIL is every call but
# those made while another's value runs Python code.
cdef char shared_scratch[SCRATCH]
cdef bint scratch_taken = False


cdef int begin(Writer* w) except -1:
    global scratch_taken
    w.top = -1
    w.depth = 0
    w.wary = False
    w.frames = w.first_frames
    w.room = FRAMES
    w.scratch = not scratch_taken
    if w.scratch:
        scratch_taken = True
        w.start = shared_scratch
    else:
        w.start = <char*>PyMem_Malloc(SCRATCH)
        if w.start is NULL:
            PyErr_NoMemory()
            return -1
    w.end = w.start + SCRATCH
    return 0


cdef void finish(Writer* w) noexcept:
    """Give back all that the writer holds."""
    global scratch_taken
    if w.scratch:
        scratch_taken = False
    else:
        PyMem_Free(w.start)
    # Dropping a container can run Python code, which may use the codec again: the space is free
    # by now, and the frames are this call's own.
    while w.top >= 0:
        drop_frame(w)
    if w.frames != w.first_frames:
        PyMem_Free(w.frames)


cdef inline void drop_frame(Writer* w) noexcept:
    cdef Frame frame = w.frames[w.top]
    w.top -= 1
    w.depth -= frame.levels
    if frame.owns_key:
        Py_DECREF(frame.key)
    Py_DECREF(frame.owner)


cdef char* grow(Writer* w, char* p, Py_ssize_t wanted) except NULL:
    global scratch_taken
    cdef Py_ssize_t used = p - w.start
    cdef Py_ssize_t size = w.end - w.start
    cdef char* grown
    if wanted > PY_SSIZE_T_MAX // 4 - used or size > PY_SSIZE_T_MAX // 4:
        PyErr_NoMemory()
        return NULL
    size = max(2 * size, used + wanted)
    if w.scratch:
        grown = <char*>PyMem_Malloc(size)
        if grown is not NULL:
            memcpy(grown, w.start, used)
            w.scratch = False
            scratch_taken = False
    else:
        grown = <char*>PyMem_Realloc(w.start, size)
    if grown is NULL:
        PyErr_NoMemory()
        return NULL
    w.start = grown
    w.end = grown + size
    return grown + used


cdef inline char* reserve(Writer* w, char* p, Py_ssize_t wanted) except NULL:
    """Make room for *wanted* bytes at *p*, and return where *p* is then."""
    if w.end - p >= wanted:
        return p
    return grow(w, p, wanted)


class Restart(Exception):
    """A dict with keys of several types showed up late."""


cdef inline void own_key(Writer* w) noexcept:
    cdef Frame* frame
    if w.top >= 0:
        frame = &w.frames[w.top]
        if frame.kind == DICT and not frame.owns_key and frame.key is not NULL:
            Py_INCREF(frame.key)
            frame.owns_key = True


cdef int before_python(Writer* w) except -1:
    """Prepare for Python code, which may change the open containers.

    From here on a dict is looked through when it is opened, and one that is open already is
    now, so that a key that is no str is known to be a change when it turns up later.
    """
    cdef int i
    own_key(w)
    if not w.wary:
        for i in range(w.top + 1):
            if w.frames[i].kind == DICT and not all_keys_are_text(w.frames[i].owner):
                raise Restart
        w.wary = True
    return 0


cdef bint all_keys_are_text(PyObject* mapping) noexcept:
    cdef Py_ssize_t position = 0
    cdef PyObject* key
    cdef PyObject* item
    while PyDict_Next(mapping, &position, &key, &item):
        if Py_TYPE(key) != &PyUnicode_Type:
            return False
    return True


cdef int refuse(Writer* w, reason) except -1:
    own_key(w)
    raise Refused(reason)


cdef inline int push(
    Writer* w, PyObject* owner, Kind kind, Py_ssize_t size, int levels, bint hashed
) except -1:
    """Open a container, to be written once the caller returns to write_document."""
    cdef Frame* frame
    if w.depth + levels > MAX_DEPTH:
        refuse(w, TOO_DEEP)
    own_key(w)
    if w.top + 1 == w.room:
        more_frames(w)
    w.top += 1
    w.depth += levels
    frame = &w.frames[w.top]
    Py_INCREF(owner)
    frame.owner = owner
    frame.key = NULL
    frame.position = 0
    frame.size = size
    frame.left = size
    frame.kind = kind
    frame.levels = levels
    frame.owns_key = False
    frame.hashed = hashed
    return 0


cdef int more_frames(Writer* w) except -1:
    cdef Frame* frames = NULL if w.frames == w.first_frames else w.frames
    frames = <Frame*>PyMem_Realloc(frames, 2 * w.room * sizeof(Frame))
    if frames is NULL:
        raise MemoryError
    if w.frames == w.first_frames:
        memcpy(frames, w.first_frames, w.room * sizeof(Frame))
    w.frames = frames
    w.room *= 2
    return 0
