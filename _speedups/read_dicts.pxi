# Reading: dicts. Sessions repeat themselves, so the keys of a dict are mostly those of another one
# that was read before. A copy of that one without its values costs a third of a new dict.

cdef enum:
    TEMPLATES = 256
    MOST_KEYS = 64

cdef struct Template:
    PyObject* dict  # owned: keys, each with None as its value; NULL at first
    size_t last  # what the last keys came to that this place was asked for

cdef Template templates[TEMPLATES]


cdef PyObject* dict_of(PyObject** items, Py_ssize_t n) noexcept:
    """A dict of *n* keys and values in turn. It takes over their references if it succeeds."""
    cdef size_t sum = n
    cdef Py_ssize_t i
    cdef Template* template
    cdef PyObject* made
    for i in range(0, n, 2):
        sum = sum * 31 + (<size_t>items[i] >> 4)
    template = &templates[(sum ^ sum >> 8) % TEMPLATES]
    if template.dict is not NULL and has_keys_of(template.dict, items, n):
        return copy_with_values(template.dict, items, n)
    made = PyDict_New()
    if made is NULL:
        return NULL
    for i in range(0, n, 2):
        if PyDict_SetItem(made, items[i], items[i + 1]) < 0:
            Py_DECREF(made)
            return NULL
    # Only what comes twice is worth a template.
    if template.last == sum and n <= 2 * MOST_KEYS and 2 * PyDict_GET_SIZE(made) == n:
        make_template(template, items, n)
    template.last = sum
    for i in range(n):
        Py_DECREF(items[i])
    return made


cdef void make_template(Template* template, PyObject** items, Py_ssize_t n) noexcept:
    cdef PyObject* empty = PyDict_New()
    cdef Py_ssize_t i
    for i in range(0, n, 2):
        if empty is not NULL and PyDict_SetItem(empty, items[i], Py_None) < 0:
            Py_DECREF(empty)
            empty = NULL
    if empty is NULL:
        PyErr_Clear()  # without one is well, too
    else:
        Py_XDECREF(template.dict)
        template.dict = empty
