/* The text of an array that JSON has no place for, because its indexes do not begin at 1. */
#include "array_wire.h"
#include "uuid.h"

static bool needs_quotes(const uint8_t *data, size_t size)
{
    if (size == 0)
        return true;
    if (size == 4 && (data[0] | 32) == 'n' && (data[1] | 32) == 'u' && (data[2] | 32) == 'l' && (data[3] | 32) == 'l')
        return true;
    for (size_t i = 0; i < size; i++) {
        if (strchr("\"\\{}, \t\n\r\v\f", data[i]) != NULL)
            return true;
    }
    return false;
}

static Outcome append_text(Block *out, const uint8_t *data, size_t size)
{
    if (!needs_quotes(data, size))
        return append(out, (const char *)data, size);
    Outcome outcome = append(out, "\"", 1);
    for (size_t i = 0; outcome == DONE && i < size; i++) {
        if (data[i] == '"' || data[i] == '\\')
            outcome = append(out, "\\", 1);
        if (outcome == DONE)
            outcome = append(out, (const char *)data + i, 1);
    }
    return outcome == DONE ? append(out, "\"", 1) : outcome;
}

static Outcome append_uuid(Block *out, const uint8_t *data)
{
    uint8_t *at = block_extend(out, UUID_TEXT);
    if (at == NULL)
        return NO_MEMORY;
    uuid_write(at, data);
    return DONE;
}

static Outcome append_element(Block *out, Array *array)
{
    const uint8_t *data;
    int32_t size;
    Outcome outcome = array_next(array, &data, &size);
    if (outcome != DONE)
        return outcome;
    if (size == -1)
        return append(out, "NULL", 4);
    switch (array->element) {
    case OF_BOOL:
        return size == 1 && data[0] <= 1 ? append(out, data[0] ? "t" : "f", 1) : MALFORMED;
    case OF_INT2:
    case OF_INT4:
    case OF_INT8:
        return append_integer_element(out, array->element, data, (size_t)size);
    case OF_TEXT:
    case OF_VARCHAR:
        return append_text(out, data, (size_t)size);
    case OF_UUID:
        return size == UUID_SIZE ? append_uuid(out, data) : MALFORMED;
    default:
        return MALFORMED;
    }
}

static Outcome append_dimension(Block *out, Array *array, int dimension)
{
    Outcome outcome = append(out, "{", 1);
    for (uint32_t i = 0; outcome == DONE && i < array->lengths[dimension]; i++) {
        if (i > 0)
            outcome = append(out, ",", 1);
        if (outcome == DONE)
            outcome = dimension + 1 < array->dimensions ? append_dimension(out, array, dimension + 1)
                                                        : append_element(out, array);
    }
    return outcome == DONE ? append(out, "}", 1) : outcome;
}

static Outcome append_bounds(Block *out, int64_t lower, int64_t length)
{
    Outcome outcome = append(out, "[", 1);
    if (outcome == DONE)
        outcome = append_integer(out, lower);
    if (outcome == DONE)
        outcome = append(out, ":", 1);
    if (outcome == DONE)
        outcome = append_integer(out, lower + length - 1);
    return outcome == DONE ? append(out, "]", 1) : outcome;
}

Outcome array_to_literal(Block *out, Array *array)
{
    Outcome outcome = DONE;
    for (int i = 0; outcome == DONE && i < array->dimensions; i++)
        outcome = append_bounds(out, array->lower[i], array->lengths[i]);
    if (outcome == DONE)
        outcome = append(out, "=", 1);
    return outcome == DONE ? append_dimension(out, array, 0) : outcome;
}
