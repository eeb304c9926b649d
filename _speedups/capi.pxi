# C functions in use, with borrowed PyObject* in place of counted objects.
#
# None of these raises by itself: who calls one that can fail looks at what it returns.

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport INT64_MAX, int8_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset, strlen

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyDict_Type, PyList_Type
    PyTypeObject PyTuple_Type, PyBytes_Type
    PyObject *Py_None, *Py_True, *Py_False
    PyTypeObject* Py_TYPE(PyObject*)
    PyObject* Py_NewRef(PyObject*)
    void Py_INCREF(PyObject*), Py_DECREF(PyObject*), Py_XDECREF(PyObject*)
    void* PyMem_Malloc(size_t), *PyMem_Realloc(void*, size_t)
    void PyMem_Free(void*)
    Py_ssize_t PY_SSIZE_T_MAX

    PyObject *PyErr_NoMemory(), *PyErr_Occurred()
    int PyErr_ExceptionMatches(PyObject*)
    void PyErr_SetObject(PyObject*, PyObject*), PyErr_Clear()
    PyObject* PyObject_CallFunction(PyObject*, const char*, ...)
    Py_hash_t PyObject_Hash(PyObject*)

    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t)
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)
    int PyUnicode_1BYTE_KIND, PyUnicode_2BYTE_KIND
    PyObject* PyUnicode_New(Py_ssize_t, Py_UCS4)
    PyObject* PyUnicode_FromKindAndData(int, const void*, Py_ssize_t)
    long long PyLong_AsLongLongAndOverflow(PyObject*, int*)  # never fails for an exact int
    PyObject* PyLong_FromLongLong(long long)
    double PyFloat_AS_DOUBLE(PyObject*)
    PyObject* PyFloat_FromDouble(double)
    int Py_DTSF_ADD_DOT_0
    char* PyOS_double_to_string(double, char, int, int, int*)
    double PyOS_string_to_double(const char*, char**, PyObject*)

    PyObject *PyList_New(Py_ssize_t), *PyTuple_New(Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    void PyTuple_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    Py_ssize_t PySequence_Fast_GET_SIZE(PyObject*)
    PyObject* PySequence_Fast_GET_ITEM(PyObject*, Py_ssize_t)
    PyObject* PyDict_New()
    Py_ssize_t PyDict_GET_SIZE(PyObject*)
    bint PyDict_Next(PyObject*, Py_ssize_t*, PyObject**, PyObject**)
    int PyDict_SetItem(PyObject*, PyObject*, PyObject*)
    PyObject* PyDict_GetItemWithError(PyObject*, PyObject*)

cdef extern from "datetime.h":
    int PyDateTime_GET_YEAR(PyObject*), PyDateTime_GET_MONTH(PyObject*)
    int PyDateTime_GET_DAY(PyObject*), PyDateTime_DATE_GET_HOUR(PyObject*)
    int PyDateTime_DATE_GET_MINUTE(PyObject*), PyDateTime_DATE_GET_SECOND(PyObject*)
    int PyDateTime_DATE_GET_MICROSECOND(PyObject*), PyDateTime_DATE_GET_FOLD(PyObject*)
    PyObject* PyDateTime_DATE_GET_TZINFO(PyObject*)
    PyObject* PyDateTime_TimeZone_UTC

cdef extern from "float.h":
    int FLT_EVAL_METHOD

cdef extern from "machine.h":
    uint32_t load4(const void*)
    uint64_t load8(const void*)
    void store4(void*, uint32_t), store8(void*, uint64_t)
    uint64_t keep_bytes(uint64_t, int)
    int first_bit(unsigned int)
    bint has_escape8(uint64_t)
    unsigned int stops16(const char*)
    int read_threes(const char*, uint16_t*)
    bint write_threes(char*, const void*, int)
    int text_ready(PyObject*), text_kind(PyObject*)
    bint text_is_compact_ascii(PyObject*), text_is_ascii(PyObject*)
    Py_ssize_t text_length(PyObject*)
    void* text_data(PyObject*)
    const char* compact_data(PyObject*)
    PyObject* str_new(PyObject*, PyObject*)
    bint int_to_16(PyObject*, uint8_t*)
    PyObject* int_from_16(const uint8_t*)
    bint has_text_keys(PyObject*)
    bint has_keys_of(PyObject*, PyObject**, Py_ssize_t)
    PyObject* copy_with_values(PyObject*, PyObject**, Py_ssize_t)
    void probe_keys(PyObject*, PyObject*, PyObject*)
    Py_ssize_t slot_offset(PyObject*)
    PyObject* slot(PyObject*, Py_ssize_t)
    void set_slot(PyObject*, Py_ssize_t, PyObject*)
    PyObject* allocate(PyObject*)
    int import_datetime() except -1
    bint fill_random(void*, size_t)
    PyTypeObject* datetime_type()
    PyObject* datetime_new(int, int, int, int, int, int, int, PyObject*)
    object take(PyObject*)
    int raise_pending() except -1
