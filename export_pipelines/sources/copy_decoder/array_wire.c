#include "array_wire.h"

enum { HEADER = 12, DIMENSION = 8, LONGEST_INTEGER = 20 };

bool array_parse(Array *array, const uint8_t *data, size_t size)
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
        array->lower[i] = (int32_t)load32(data + HEADER + DIMENSION * i + 4);
        if (array->lengths[i] == 0 || array->lengths[i] > INT32_MAX)
            return false;
    }
    array->at = data + HEADER + DIMENSION * (size_t)dimensions;
    array->end = data + size;
    return true;
}

Outcome array_next(Array *array, const uint8_t **data, int32_t *size)
{
    if (array->end - array->at < 4)
        return MALFORMED;
    *size = (int32_t)load32(array->at);
    array->at += 4;
    if (*size == -1)
        return DONE;
    if (*size < 0 || *size > array->end - array->at)
        return MALFORMED;
    *data = array->at;
    array->at += *size;
    return DONE;
}

Outcome append(Block *out, const char *text, size_t size)
{
    uint8_t *at = block_extend(out, size);
    if (at == NULL)
        return NO_MEMORY;
    memcpy(at, text, size);
    return DONE;
}

Outcome append_integer(Block *out, int64_t value)
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

Outcome append_integer_element(Block *out, uint32_t element, const uint8_t *data, size_t size)
{
    switch (element) {
    case OF_INT2:
        return size == 2 ? append_integer(out, (int16_t)load16(data)) : MALFORMED;
    case OF_INT4:
        return size == 4 ? append_integer(out, (int32_t)load32(data)) : MALFORMED;
    default:
        return size == 8 ? append_integer(out, (int64_t)load64(data)) : MALFORMED;
    }
}
