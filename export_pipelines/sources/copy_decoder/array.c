#include "array.h"

#include "uuid.h"

enum { HEADER = 12, DIMENSION = 8, MOST_DIMENSIONS = 6, LONGEST_INTEGER = 20, LONGEST_ESCAPE = 6 };
enum { OF_BOOL = 16, OF_INT8 = 20, OF_INT2 = 21, OF_INT4 = 23, OF_TEXT = 25, OF_VARCHAR = 1043, OF_UUID = 2950 }; /* types, by OID */

typedef struct {
    uint32_t element;
    int dimensions;
    uint32_t lengths[MOST_DIMENSIONS];
    const uint8_t *at, *end; /* of the elements that are left */
} Array;

static bool parse(Array *array, const uint8_t *data, size_t size)
{
    if (size < HEADER)
        return false;
    uint32_t dimensions = load32(data);
    if (dimensions > MOST_DIMENSIONS || size - HEADER < DIMENSION * (size_t)dimensions)
        return false;
    array->dimensions = (int)dimensions;
    array->element = load32(data + 8);
    for (int i = 0; i < array->dimensions; i++) {
        array->lengths[i] = load32(data + HEADER + DIMENSION * i);
        if (array->lengths[i] == 0 || array->lengths[i] > INT32_MAX)
            return false;
    }
    array->at = data + HEADER + DIMENSION * (size_t)dimensions;
    array->end = data + size;
    return true;
}

static Outcome append(Block *out, const char *text, size_t size)
{
    uint8_t *at = block_extend(out, size);
    if (at == NULL)
        return NO_MEMORY;
    memcpy(at, text, size);
    return DONE;
}

static Outcome append_integer(Block *out, int64_t value)
{
    char digits[LONGEST_INTEGER];
    char *at = digits + sizeof digits;
    uint64_t rest = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
    } while ((rest /= 10) > 0);
    if (value < 0)
        *--at = '-';
    return append(out, at, (size_t)(digits + sizeof digits - at));
}

static bool is_escaped(uint8_t character)
{
    return character < ' ' || character == '"' || character == '\\';
}

/* One character as escape_json writes it; how many bytes that are. */
static size_t escape(uint8_t *at, uint8_t character)
{
    static const char DIGITS[] = "0123456789abcdef", SHORT[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    for (const char *pair = SHORT; *pair != '\0'; pair += 2) {
        if ((uint8_t)pair[0] == character) {
            at[0] = '\\';
            at[1] = (uint8_t)pair[1];
            return 2;
        }
    }
    memcpy(at, "\\u00", 4);
    at[4] = (uint8_t)DIGITS[character >> 4];
    at[5] = (uint8_t)DIGITS[character & 15];
    return 6;
}

static Outcome append_string(Block *out, const uint8_t *data, size_t size)
{
    size_t before = out->size, escaped = 0;
    for (size_t i = 0; i < size; i++)
        escaped += is_escaped(data[i]);
    uint8_t *start = block_extend(out, size + LONGEST_ESCAPE * escaped + 2);
    if (start == NULL)
        return NO_MEMORY;
    uint8_t *at = start;
    *at++ = '"';
    for (size_t i = 0; i < size; i++) {
        if (is_escaped(data[i]))
            at += escape(at, data[i]);
        else
            *at++ = data[i];
    }
    *at++ = '"';
    out->size = before + (size_t)(at - start);
    return DONE;
}

static Outcome append_uuid(Block *out, const uint8_t *data)
{
    uint8_t *at = block_extend(out, UUID_TEXT + 2);
    if (at == NULL)
        return NO_MEMORY;
    at[0] = at[UUID_TEXT + 1] = '"';
    uuid_write(at + 1, data);
    return DONE;
}

static Outcome append_element(Block *out, uint32_t element, const uint8_t *data, size_t size)
{
    switch (element) {
    case OF_BOOL:
        if (size != 1 || data[0] > 1)
            return MALFORMED;
        return data[0] ? append(out, "true", 4) : append(out, "false", 5);
    case OF_INT2:
        return size == 2 ? append_integer(out, (int16_t)load16(data)) : MALFORMED;
    case OF_INT4:
        return size == 4 ? append_integer(out, (int32_t)load32(data)) : MALFORMED;
    case OF_INT8:
        return size == 8 ? append_integer(out, (int64_t)load64(data)) : MALFORMED;
    case OF_TEXT:
    case OF_VARCHAR:
        return append_string(out, data, size);
    case OF_UUID:
        return size == UUID_SIZE ? append_uuid(out, data) : MALFORMED;
    default:
        return MALFORMED;
    }
}

static Outcome take_element(Block *out, Array *array)
{
    if (array->end - array->at < 4)
        return MALFORMED;
    int32_t size = (int32_t)load32(array->at);
    array->at += 4;
    if (size == -1)
        return append(out, "null", 4);
    if (size < 0 || size > array->end - array->at)
        return MALFORMED;
    const uint8_t *data = array->at;
    array->at += size;
    return append_element(out, array->element, data, (size_t)size);
}

static Outcome take_dimension(Block *out, Array *array, int dimension)
{
    Outcome outcome = append(out, "[", 1);
    for (uint32_t i = 0; outcome == DONE && i < array->lengths[dimension]; i++) {
        if (i > 0)
            outcome = append(out, ",", 1);
        if (outcome == DONE)
            outcome = dimension + 1 < array->dimensions ? take_dimension(out, array, dimension + 1)
                                                        : take_element(out, array);
    }
    return outcome == DONE ? append(out, "]", 1) : outcome;
}

Outcome array_to_json(Block *out, const uint8_t *data, size_t size)
{
    Array array;
    if (!parse(&array, data, size))
        return MALFORMED;
    Outcome outcome = array.dimensions == 0 ? append(out, "[]", 2) : take_dimension(out, &array, 0);
    return outcome == DONE && array.at != array.end ? MALFORMED : outcome;
}
