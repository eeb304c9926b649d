/* What Cython cannot say: how bytes lie in words, and how CPython's objects lie in memory. */

#include <datetime.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>
#if defined(__SSE2__) || defined(_M_X64)
#include <emmintrin.h>
#define HAS_SSE2 1
#define every_byte(x) _mm_set1_epi8((char)(x))
#define every_word(x) _mm_set1_epi16((short)(x))
#endif

#if defined(__linux__) && defined(HAVE_GETRANDOM)
#include <sys/random.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The compiled arm is for machines that keep the lowest byte of a number first."
#endif

/* Bytes in words. Every access is by memcpy, so that no alignment matters. */

static inline uint32_t load4(const void *p) { uint32_t x; memcpy(&x, p, 4); return x; }
static inline uint64_t load8(const void *p) { uint64_t x; memcpy(&x, p, 8); return x; }
static inline void store4(void *p, uint32_t x) { memcpy(p, &x, 4); }
static inline void store8(void *p, uint64_t x) { memcpy(p, &x, 8); }

/* The first n of 8 bytes, 0 < n < 8, the others zero. */
static inline uint64_t keep_bytes(uint64_t x, int n) { return x & ~(uint64_t)0 >> (64 - 8 * n); }

static inline int first_bit(unsigned bits) {
#if defined(__GNUC__) || defined(__clang__)
    return __builtin_ctz(bits);
#else
    int i = 0;
    while (!(bits >> i & 1)) i++;
    return i;
#endif
}

/* Bytes that a JSON string does not hold as they are: quote, backslash, below space. */

/* Whether one of 8 ASCII bytes is of these. A subtraction borrows into the high bit. */
static inline int has_escape8(uint64_t x) {
    const uint64_t ones = 0x0101010101010101u;
    return ((((x - 0x20 * ones) | ((x ^ 0x22 * ones) - ones) | ((x ^ 0x5C * ones) - ones))
             & 0x80 * ones) != 0);
}

/* One bit for each of 16 bytes that is of these or beyond ASCII. */
static inline unsigned stops16(const char *p) {
#ifdef HAS_SSE2
    __m128i x = _mm_loadu_si128((const __m128i *)p);
    __m128i low = _mm_cmplt_epi8(x, every_byte(0x20));  /* signed: beyond ASCII is below 0 */
    __m128i quote = _mm_cmpeq_epi8(x, every_byte('"'));
    __m128i slash = _mm_cmpeq_epi8(x, every_byte('\\'));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_or_si128(quote, slash)));
#else
    uint64_t a = load8(p), b = load8(p + 8);
    unsigned bits = 0, i;
    if (!has_escape8(a) && !has_escape8(b) && !((a | b) & 0x8080808080808080u)) return 0;
    for (i = 0; i < 16; i++) {
        unsigned char c = (unsigned char)p[i];
        bits |= (unsigned)(c < 0x20 || c == '"' || c == '\\' || c >= 0x80) << i;
    }
    return bits;
#endif
}

/* Characters of three bytes in UTF-8: U+0800 to U+FFFF without the surrogates. Of SSE2 alone, so
   that any x86-64 will do; elsewhere the callers' own loops read and write them one by one. */

#ifdef HAS_SSE2
/* Reads up to 16 such characters from 48 bytes, and returns how many stand before anything else.
   All 32 bytes at to may be written. */
static inline int read_threes(const char *p, uint16_t *to) {
    const __m128i *source = (const __m128i *)p;
    __m128i a = _mm_loadu_si128(source), b = _mm_loadu_si128(source + 1);
    __m128i c = _mm_loadu_si128(source + 2), high, low, top, good, bad;
    unsigned stops;
    int i;
    /* Shuffled half into half like cards, four times, every third byte comes to lie together. */
    for (i = 0; i < 4; i++) {
        __m128i first = _mm_unpacklo_epi8(a, _mm_srli_si128(b, 8));
        __m128i second = _mm_unpacklo_epi8(_mm_srli_si128(a, 8), c);
        c = _mm_unpacklo_epi8(b, _mm_srli_si128(c, 8));
        a = first;
        b = second;
    }
    high = _mm_or_si128(_mm_and_si128(_mm_slli_epi16(a, 4), every_byte(0xF0)),
                        _mm_and_si128(_mm_srli_epi16(b, 2), every_byte(0x0F)));
    low = _mm_or_si128(_mm_and_si128(_mm_slli_epi16(b, 6), every_byte(0xC0)),
                       _mm_and_si128(c, every_byte(0x3F)));
    _mm_storeu_si128((__m128i *)to, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128((__m128i *)to + 1, _mm_unpackhi_epi8(low, high));
    good = _mm_cmpeq_epi8(_mm_and_si128(a, every_byte(0xF0)), every_byte(0xE0));
    good = _mm_and_si128(good, _mm_cmplt_epi8(b, every_byte(0xC0)));  /* signed: 0x80 to 0xBF */
    good = _mm_and_si128(good, _mm_cmplt_epi8(c, every_byte(0xC0)));
    top = _mm_and_si128(high, every_byte(0xF8));
    bad = _mm_or_si128(_mm_cmpeq_epi8(top, every_byte(0)), _mm_cmpeq_epi8(top, every_byte(0xD8)));
    stops = (unsigned)_mm_movemask_epi8(_mm_andnot_si128(bad, good)) ^ 0xFFFF;
    return stops ? first_bit(stops) : 16;
}

/* Writes 8 characters, each kept in width bytes, if all are such; 26 bytes at p may be written. */
static inline int write_threes(char *p, const void *characters, int width) {
    const __m128i *source = (const __m128i *)characters;
    const __m128i three = _mm_set1_epi64x(0xFFFFFF);
    __m128i c = _mm_loadu_si128(source), bad = _mm_setzero_si128(), top, two;
    int i;
    if (width == 4) {
        /* Packing is for signed numbers. What is beyond U+FFFF becomes that, which is left out. */
        const __m128i half = _mm_set1_epi32(0x8000);
        c = _mm_sub_epi32(c, half);
        c = _mm_packs_epi32(c, _mm_sub_epi32(_mm_loadu_si128(source + 1), half));
        c = _mm_xor_si128(c, every_word(0x8000));
        bad = _mm_cmpeq_epi16(c, every_word(0xFFFF));
    }
    top = _mm_and_si128(c, every_word(0xF800));
    bad = _mm_or_si128(bad, _mm_cmpeq_epi16(top, every_word(0)));
    bad = _mm_or_si128(bad, _mm_cmpeq_epi16(top, every_word(0xD800)));
    if (_mm_movemask_epi8(bad)) return 0;
    two = _mm_or_si128(_mm_srli_epi16(c, 12), every_word(0x80E0));
    two = _mm_or_si128(two, _mm_and_si128(_mm_slli_epi16(c, 2), every_word(0x3F00)));
    c = _mm_or_si128(_mm_and_si128(c, every_word(0x3F)), every_word(0x80));
    for (i = 0; i < 2; i++) {
        /* Four times three bytes and a zero, of which each second three move up. */
        __m128i four = i ? _mm_unpackhi_epi16(two, c) : _mm_unpacklo_epi16(two, c);
        __m128i moved = _mm_andnot_si128(three, _mm_srli_epi64(four, 8));
        four = _mm_or_si128(_mm_and_si128(four, three), moved);
        _mm_storel_epi64((__m128i *)(p + 12 * i), four);
        _mm_storeh_pi((__m64 *)(p + 12 * i + 6), _mm_castsi128_ps(four));
    }
    return 1;
}
#else
#define read_threes(p, to) 0
#define write_threes(p, characters, width) 0
#endif

/* Strings. In CPython 3.11 one that long deprecated functions made may lack its storage. */

#if PY_VERSION_HEX < 0x030C0000
#define text_ready(o) PyUnicode_READY((PyObject *)(o))
#else
#define text_ready(o) 0
#endif
#define text_is_compact_ascii(o) PyUnicode_IS_COMPACT_ASCII((PyObject *)(o))
#define text_is_ascii(o) PyUnicode_IS_ASCII((PyObject *)(o))
#define text_length(o) PyUnicode_GET_LENGTH((PyObject *)(o))
#define text_kind(o) ((int)PyUnicode_KIND((PyObject *)(o)))
#define text_data(o) PyUnicode_DATA((PyObject *)(o))
#define compact_data(o) ((const char *)((PyASCIIObject *)(o) + 1))

static PyObject *str_new(PyObject *type, PyObject *args) {
    return PyUnicode_Type.tp_new((PyTypeObject *)type, args, NULL);
}

/* Integers. */

/* Whether a natural number fits into 16 bytes, and these, the lowest first. */
static int int_to_16_by_call(PyObject *value, unsigned char *bytes) {
#if PY_VERSION_HEX >= 0x030D0000
    Py_ssize_t size = PyLong_AsNativeBytes(value, bytes, 16, Py_ASNATIVEBYTES_LITTLE_ENDIAN
        | Py_ASNATIVEBYTES_UNSIGNED_BUFFER | Py_ASNATIVEBYTES_REJECT_NEGATIVE);
    if (size >= 0 && size <= 16) return 1;
#else
    if (_PyLong_AsByteArray((PyLongObject *)value, bytes, 16, 1, 0) == 0) return 1;
#endif
    PyErr_Clear();
    return 0;
}

static inline int int_to_16(PyObject *value, unsigned char *bytes) {
#if PY_VERSION_HEX >= 0x030C0000 && PY_VERSION_HEX < 0x030E0000 && PYLONG_BITS_IN_DIGIT == 30
    /* These keep 30 bits in a digit, and count and sign in one word before them. */
    const digit *d = ((PyLongObject *)value)->long_value.ob_digit;
    uintptr_t tag = ((PyLongObject *)value)->long_value.lv_tag;
    if (tag >> 3 == 5 && (tag & 3) == 0 && d[4] <= 0xFF) {
        store8(bytes, d[0] | (uint64_t)d[1] << 30 | (uint64_t)d[2] << 60);
        store8(bytes + 8, d[2] >> 4 | (uint64_t)d[3] << 26 | (uint64_t)d[4] << 56);
        return 1;
    }
#endif
    return int_to_16_by_call(value, bytes);
}

static PyObject *int_from_16(const unsigned char *bytes) {
#if PY_VERSION_HEX >= 0x030D0000
    return PyLong_FromUnsignedNativeBytes(bytes, 16, Py_ASNATIVEBYTES_LITTLE_ENDIAN);
#else
    return _PyLong_FromByteArray(bytes, 16, 1, 0);
#endif
}

/* Dicts. */

#if PY_VERSION_HEX < 0x030F0000 && !defined(Py_GIL_DISABLED)
/* The head of a dict's table. Where all keys are exact strings, pairs of key and value follow
   behind the indices, in order; a pair without a value was deleted. */
typedef struct {
    Py_ssize_t references;
    uint8_t log2_size, log2_index_bytes, kind;
    uint32_t version;
    Py_ssize_t usable, entries;
} Keys;
static int text_keys = 1;  /* their kind; -1 if this Python has other tables than we think */

static inline int has_text_keys(PyObject *dict) {
    const Keys *keys = (const Keys *)((PyDictObject *)dict)->ma_keys;
    return keys->kind == text_keys && ((PyDictObject *)dict)->ma_values == NULL;
}

static inline PyObject **entries_of(PyObject *dict) {
    const Keys *keys = (const Keys *)((PyDictObject *)dict)->ma_keys;
    return (PyObject **)((char *)(keys + 1) + ((size_t)1 << keys->log2_index_bytes));
}

/* Whether the n / 2 keys in turn with values are the very objects in a dict, in order. */
static inline int has_keys_of(PyObject *dict, PyObject **items, Py_ssize_t n) {
    PyObject **entries = entries_of(dict);
    Py_ssize_t i;
    if (!has_text_keys(dict) || 2 * ((const Keys *)((PyDictObject *)dict)->ma_keys)->entries != n
            || 2 * PyDict_GET_SIZE(dict) != n) return 0;
    for (i = 0; i < n; i += 2)
        if (entries[i] != items[i]) return 0;
    return 1;
}

/* A copy of such a dict with other values, which takes over all references in items. */
static PyObject *copy_with_values(PyObject *dict, PyObject **items, Py_ssize_t n) {
    PyObject *made, **entries;
    Py_ssize_t i;
    /* In CPython 3.11 the garbage may be collected in there, and what then runs may read, too. */
    Py_INCREF(dict);
    made = PyDict_Copy(dict);
    Py_DECREF(dict);
    if (made == NULL || !has_keys_of(made, items, n)) {
        Py_XDECREF(made);
        return NULL;
    }
    entries = entries_of(made);
    for (i = 0; i < n; i += 2) {
        Py_DECREF(entries[i + 1]);
        entries[i + 1] = items[i + 1];
        Py_DECREF(items[i]);
    }
    if (!PyObject_GC_IsTracked(made)) PyObject_GC_Track(made);
    return made;
}

/* Look at a dict of one item in that way, and never again if something else is there. */
static void probe_keys(PyObject *dict, PyObject *key, PyObject *value) {
    const Keys *keys = (const Keys *)((PyDictObject *)dict)->ma_keys;
    if (!has_text_keys(dict) || keys->log2_size != 3 || keys->log2_index_bytes != 3
            || keys->entries != 1 || entries_of(dict)[0] != key || entries_of(dict)[1] != value)
        text_keys = -1;
}
#else
#define has_text_keys(dict) 0
#define has_keys_of(dict, items, n) 0
#define copy_with_values(dict, items, n) NULL
#define probe_keys(dict, key, value) (void)0
#endif

/* Instances of classes with slots. */

/* Where the object that a slot holds lies in the instances of its class, or -1. */
static Py_ssize_t slot_offset(PyObject *descriptor) {
    PyMemberDef *member;
    if (Py_TYPE(descriptor) != &PyMemberDescr_Type) return -1;
    member = ((PyMemberDescrObject *)descriptor)->d_member;
    return member->type == T_OBJECT_EX && member->flags == 0 ? member->offset : -1;
}

#define slot(o, offset) (*(PyObject **)((char *)(o) + (offset)))
#define set_slot(o, offset, value) (void)(slot(o, offset) = (value))

static PyObject *allocate(PyObject *type) {
    return ((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
}

/* Datetimes. */

static int import_datetime(void) {
    PyDateTime_IMPORT;
    return PyDateTimeAPI == NULL ? -1 : 0;
}
#define datetime_type() (PyDateTimeAPI->DateTimeType)
#define datetime_new(y, mo, d, h, mi, s, us, tz) PyDateTimeAPI->DateTime_FromDateAndTime( \
    y, mo, d, h, mi, s, us, tz, PyDateTimeAPI->DateTimeType)

/* Randomness of the operating system, without the detour by a bytes object where it can be had. */

#if defined(__linux__) && defined(HAVE_GETRANDOM)
#define fill_random(p, n) (getrandom(p, n, 0) == (n))
#else
#define fill_random(p, n) 0
#endif

/* Exceptions that are pending. */

/* Turns an owned pointer into the object that a Cython expression then owns. */
#define take(owned) (owned)
/* Hands what is pending to the function or the try statement around. */
#define raise_pending() (-1)
