# The parts of CPython's C API in use, with borrowed PyObject* in place of counted objects.

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int8_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyDict_Type, PyList_Type
    PyTypeObject PyTuple_Type, PyBytes_Type
    PyObject* Py_None
    PyObject* Py_True
    PyObject* Py_False
    PyTypeObject* Py_TYPE(PyObject*)
    void Py_INCREF(PyObject*)
    void Py_DECREF(PyObject*)
    void Py_XDECREF(PyObject*)
    Py_ssize_t PY_SSIZE_T_MAX
    PyObject* PyErr_NoMemory()
    void PyErr_Clear()
    void* PyMem_Malloc(size_t)
    void* PyMem_Realloc(void*, size_t)
    void PyMem_Free(void*)

    PyObject* PyBytes_FromStringAndSize(const char*, Py_ssize_t) except NULL
    PyObject* bytes_new "PyBytes_FromStringAndSize"(const char*, Py_ssize_t)  # may be NULL
    char* PyBytes_AS_STRING(PyObject*)
    Py_ssize_t PyBytes_GET_SIZE(PyObject*)

    PyObject* PyUnicode_New(Py_ssize_t, Py_UCS4) except NULL
    PyObject* PyUnicode_FromKindAndData(int, const void*, Py_ssize_t) except NULL
    int PyUnicode_1BYTE_KIND, PyUnicode_2BYTE_KIND, PyUnicode_4BYTE_KIND
    Py_hash_t PyObject_Hash(PyObject*) except? -1

    PyObject* PyObject_Repr(PyObject*)
    long long PyLong_AsLongLongAndOverflow(PyObject*, int*) except? -1
    PyObject* PyLong_FromLongLong(long long) except NULL
    PyObject* PyLong_FromString(const char*, char**, int) except NULL
    double PyFloat_AS_DOUBLE(PyObject*)
    PyObject* PyFloat_FromDouble(double) except NULL
    char* PyOS_double_to_string(double, char, int, int, int*) except NULL
    int Py_DTSF_ADD_DOT_0
    double PyOS_string_to_double(const char*, char**, PyObject*) except? -1.0

    PyObject* PyList_New(Py_ssize_t) except NULL
    Py_ssize_t PyList_GET_SIZE(PyObject*)
    PyObject* PyList_GET_ITEM(PyObject*, Py_ssize_t)
    void PyList_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)
    PyObject* PyTuple_New(Py_ssize_t) except NULL
    Py_ssize_t PyTuple_GET_SIZE(PyObject*)
    PyObject* PyTuple_GET_ITEM(PyObject*, Py_ssize_t)
    void PyTuple_SET_ITEM(PyObject*, Py_ssize_t, PyObject*)

    PyObject* PyDict_New() except NULL
    Py_ssize_t PyDict_Size "PyDict_GET_SIZE"(PyObject*)
    bint PyDict_Next(PyObject*, Py_ssize_t*, PyObject**, PyObject**)
    int PyDict_SetItem(PyObject*, PyObject*, PyObject*)  # the caller checks
    int PyDict_Contains(PyObject*, PyObject*) except -1
    PyObject* PyDict_GetItemWithError(PyObject*, PyObject*)  # the caller checks
    PyObject* PyErr_Occurred()
    int PySet_Contains(PyObject*, PyObject*) except -1

cdef extern from "datetime.h":
    int PyDateTime_GET_YEAR(PyObject*)
    int PyDateTime_GET_MONTH(PyObject*)
    int PyDateTime_GET_DAY(PyObject*)
    int PyDateTime_DATE_GET_HOUR(PyObject*)
    int PyDateTime_DATE_GET_MINUTE(PyObject*)
    int PyDateTime_DATE_GET_SECOND(PyObject*)
    int PyDateTime_DATE_GET_MICROSECOND(PyObject*)
    int PyDateTime_DATE_GET_FOLD(PyObject*)
    PyObject* PyDateTime_DATE_GET_TZINFO(PyObject*)
    PyObject* PyDateTime_TimeZone_UTC

cdef extern from *:
    """
    /* Strings of CPython 3.11 may lack their storage until they are made ready. Only C code
       that uses long deprecated functions makes such strings, and these macros see to them. */
    #if PY_VERSION_HEX < 0x030C0000
    #define qs_text_ready(o) (PyUnicode_READY((PyObject *)(o)))
    #else
    #define qs_text_ready(o) (0)
    #endif
    #define qs_text_is_compact_ascii(o) (PyUnicode_IS_COMPACT_ASCII((PyObject *)(o)))
    #define qs_compact_data(o) ((const char *)((PyASCIIObject *)(o) + 1))
    #define qs_text_is_ascii(o) (PyUnicode_IS_ASCII((PyObject *)(o)))
    #define qs_text_length(o) (PyUnicode_GET_LENGTH((PyObject *)(o)))
    #define qs_text_kind(o) ((int)PyUnicode_KIND((PyObject *)(o)))
    #define qs_text_data(o) (PyUnicode_DATA((PyObject *)(o)))

    /* Natural numbers of few digits, without a call where Python offers that. */
    #if PY_VERSION_HEX >= 0x030C0000 && !defined(QS_PUBLIC_API_ONLY)
    static inline int qs_int_is_digit(PyObject *value) {
        return PyUnstable_Long_IsCompact((PyLongObject *)value)
            && PyUnstable_Long_CompactValue((PyLongObject *)value) >= 0;
    }
    #define qs_int_as_digit(o) ((long long)PyUnstable_Long_CompactValue((PyLongObject *)(o)))
    #else
    #define qs_int_is_digit(o) 0
    #define qs_int_as_digit(o) 0
    #endif
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #define QS_LITTLE_ENDIAN 0
    #else
    #define QS_LITTLE_ENDIAN 1
    #endif

    /* A dict with room for n items. No public function makes one. */
    #if PY_VERSION_HEX < 0x030E0000 && !defined(QS_PUBLIC_API_ONLY)
    #define qs_dict_for(n) ((n) > 5 ? _PyDict_NewPresized(n) : PyDict_New())
    #else
    #define qs_dict_for(n) PyDict_New()
    #endif

    /* 128-bit integers to and from 16 little-endian bytes. */
    #if PY_VERSION_HEX >= 0x030D0000
    static PyObject *qs_int_from_16(const unsigned char *bytes) {
        return PyLong_FromUnsignedNativeBytes(bytes, 16, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
    }
    static int qs_int_to_16_by_call(PyObject *value, unsigned char *bytes) {
        Py_ssize_t size = PyLong_AsNativeBytes(value, bytes, 16, Py_ASNATIVEBYTES_LITTLE_ENDIAN
            | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
        if (size >= 0 && size <= 16) return 1;
        PyErr_Clear();
        return 0;
    }
    #else
    static PyObject *qs_int_from_16(const unsigned char *bytes) {
        return _PyLong_FromByteArray(bytes, 16, 1, 0);
    }
    static int qs_int_to_16_by_call(PyObject *value, unsigned char *bytes) {
        if (_PyLong_AsByteArray((PyLongObject *)value, bytes, 16, 1, 0) == 0) return 1;
        PyErr_Clear();
        return 0;
    }
    #endif
    #if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && PYLONG_BITS_IN_DIGIT == 30 \\
        && !defined(QS_PUBLIC_API_ONLY)
    /* These Pythons keep 30 bits in a digit, and count and sign in one word before them. */
    static int qs_int_to_16(PyObject *value, unsigned char *bytes) {
        const digit *d = ((PyLongObject *)value)->long_value.ob_digit;
        uintptr_t tag = ((PyLongObject *)value)->long_value.lv_tag;
        uint64_t low, high;
        int i;
        if (tag >> 3 != 5 || (tag & 3) != 0 || d[4] > 0xFF)
            return qs_int_to_16_by_call(value, bytes);
        low = d[0] | (uint64_t)d[1] << 30 | (uint64_t)d[2] << 60;
        high = d[2] >> 4 | (uint64_t)d[3] << 26 | (uint64_t)d[4] << 56;
        for (i = 0; i < 8; i++) {
            bytes[i] = (unsigned char)(low >> 8 * i);
            bytes[i + 8] = (unsigned char)(high >> 8 * i);
        }
        return 1;
    }
    #else
    #define qs_int_to_16 qs_int_to_16_by_call
    #endif

    /* Where the object that a slot of a Python class holds lies in its instances, or -1. */
    #include <structmember.h>
    static Py_ssize_t qs_slot_offset(PyObject *descriptor) {
        PyMemberDef *member;
        if (Py_TYPE(descriptor) != &PyMemberDescr_Type) return -1;
        member = ((PyMemberDescrObject *)descriptor)->d_member;
        return member->type == T_OBJECT_EX && member->flags == 0 ? member->offset : -1;
    }
    #define qs_slot(o, offset) (*(PyObject **)((char *)(o) + (offset)))
    #define qs_set_slot(o, offset, value) (void)(qs_slot(o, offset) = (value))
    static PyObject *qs_allocate(PyObject *type) {
        return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    }
    static PyObject *qs_str_new(PyObject *type, PyObject *args) {
        return PyUnicode_Type.tp_new((PyTypeObject *)type, args, NULL);
    }
    #define qs_datetime(y, mo, d, h, mi, s, us, tz) PyDateTimeAPI->DateTime_FromDateAndTime( \\
        y, mo, d, h, mi, s, us, tz, PyDateTimeAPI->DateTimeType)
    static int qs_import_datetime(void) {
        PyDateTime_IMPORT;
        return PyDateTimeAPI == NULL ? -1 : 0;
    }
    #define qs_datetime_type() (PyDateTimeAPI->DateTimeType)

    /* Bytes that a JSON string may not hold as they are: quote, backslash, below space. Exact
       as an answer to "any?" for bytes without the high bit, and for all bytes where said. */
    #include <stdint.h>
    #include <string.h>
    static inline uint64_t qs_load8(const void *p) { uint64_t x; memcpy(&x, p, 8); return x; }
    static inline uint32_t qs_load4(const void *p) { uint32_t x; memcpy(&x, p, 4); return x; }
    static inline void qs_store8(void *p, uint64_t x) { memcpy(p, &x, 8); }
    static inline void qs_store4(void *p, uint32_t x) { memcpy(p, &x, 4); }
    /* Four bytes, the lowest first, whatever this machine's order is. */
    static inline void qs_store_low_first(char *p, uint32_t x) {
    #if !QS_LITTLE_ENDIAN
        x = x >> 24 | (x >> 8 & 0xFF00) | (x << 8 & 0xFF0000) | x << 24;
    #endif
        memcpy(p, &x, 4);
    }
    static inline uint32_t qs_load_low_first(const uint8_t *p) {
    #if QS_LITTLE_ENDIAN
        return qs_load4(p);
    #else
        return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24;
    #endif
    }
    static inline uint64_t qs_dirty8(uint64_t x) {
        const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
        uint64_t quote = x ^ (ones * 0x22), slash = x ^ (ones * 0x5C);
        return ((x - ones * 0x20) | (quote - ones) | (slash - ones) | x) & high;
    }
    #if defined(__SSE2__) || defined(_M_X64)
    #include <emmintrin.h>
    /* Copies 16 bytes; 0 when all of them were clean ASCII. */
    static inline int qs_copy16(char *to, const char *from) {
        __m128i x = _mm_loadu_si128((const __m128i *)from);
        _mm_storeu_si128((__m128i *)to, x);
        return _mm_movemask_epi8(_mm_or_si128(
            _mm_cmplt_epi8(x, _mm_set1_epi8(0x20)),
            _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')),
                         _mm_cmpeq_epi8(x, _mm_set1_epi8('\\\\')))));
    }
    #define QS_SSE2 1
    /* One bit for each of 16 bytes that ends or interrupts a string in a document; bytes with
       the high bit count if `ascii` is set. */
    static inline unsigned qs_stops16(const char *p, int ascii) {
        __m128i x = _mm_loadu_si128((const __m128i *)p);
        __m128i low = ascii ? _mm_cmplt_epi8(x, _mm_set1_epi8(0x20))
            : _mm_cmpeq_epi8(_mm_max_epu8(x, _mm_set1_epi8(0x1F)), _mm_set1_epi8(0x1F));
        return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(
            _mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\\\')))));
    }
    #else
    static inline int qs_copy16(char *to, const char *from) {
        uint64_t a = qs_load8(from), b = qs_load8(from + 8);
        qs_store8(to, a);
        qs_store8(to + 8, b);
        return (qs_dirty8(a) | qs_dirty8(b)) != 0;
    }
    static inline unsigned qs_stops16(const char *p, int ascii) {
        unsigned bits = 0, i;
        for (i = 0; i < 16; i++) {
            unsigned char c = (unsigned char)p[i];
            bits |= (unsigned)(c < 0x20 || c == '"' || c == '\\\\' || (ascii && c >= 0x80)) << i;
        }
        return bits;
    }
    #endif
    static inline int qs_first_bit(unsigned bits) {
    #if defined(__GNUC__) || defined(__clang__)
        return __builtin_ctz(bits);
    #else
        int i = 0;
        while (!(bits >> i & 1)) i++;
        return i;
    #endif
    }
    """
    int text_ready "qs_text_ready"(PyObject*) except -1
    bint text_is_compact_ascii "qs_text_is_compact_ascii"(PyObject*)
    const char* compact_data "qs_compact_data"(PyObject*)
    bint text_is_ascii "qs_text_is_ascii"(PyObject*)
    Py_ssize_t text_length "qs_text_length"(PyObject*)
    int text_kind "qs_text_kind"(PyObject*)
    void* text_data "qs_text_data"(PyObject*)
    bint int_is_digit "qs_int_is_digit"(PyObject*)
    long long int_as_digit "qs_int_as_digit"(PyObject*)
    void store_low_first "qs_store_low_first"(char*, uint32_t)
    uint32_t load_low_first "qs_load_low_first"(const uint8_t*)
    PyObject* dict_for "qs_dict_for"(Py_ssize_t) except NULL
    PyObject* int_from_16 "qs_int_from_16"(const uint8_t*) except NULL
    bint int_to_16 "qs_int_to_16"(PyObject*, uint8_t*)
    Py_ssize_t slot_offset "qs_slot_offset"(PyObject*)
    PyObject* slot "qs_slot"(PyObject*, Py_ssize_t)
    void set_slot "qs_set_slot"(PyObject*, Py_ssize_t, PyObject*)
    PyObject* allocate "qs_allocate"(PyObject*)  # the caller checks
    PyObject* str_new "qs_str_new"(PyObject*, PyObject*) except NULL
    PyObject* datetime_new "qs_datetime"(int, int, int, int, int, int, int, PyObject*)
    int import_datetime "qs_import_datetime"() except -1
    PyTypeObject* datetime_type "qs_datetime_type"()
    uint64_t load8 "qs_load8"(const void*)
    uint32_t load4 "qs_load4"(const void*)
    void store8 "qs_store8"(void*, uint64_t)
    void store4 "qs_store4"(void*, uint32_t)
    uint64_t dirty8 "qs_dirty8"(uint64_t)
    int copy16 "qs_copy16"(char*, const char*)
    unsigned int stops16 "qs_stops16"(const char*, int)
    int first_bit "qs_first_bit"(unsigned int)

cdef extern from *:
    """
    /* Turns an owned pointer into the object that a Cython expression then owns. */
    static inline PyObject *qs_take(PyObject *owned) { return owned; }
    /* Hands an exception that is pending to the try statement around the call. */
    static inline int qs_raise_pending(void) { return -1; }
    """
    object take "qs_take"(PyObject*)
    int raise_pending "qs_raise_pending"() except -1
