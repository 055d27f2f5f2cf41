#include "array.h"

#include "array_wire.h"
#include "uuid.h"

enum { LONGEST_ESCAPE = 6 };

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
    case OF_INT4:
    case OF_INT8:
        return append_integer_element(out, element, data, size);
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
    const uint8_t *data;
    int32_t size;
    Outcome outcome = array_next(array, &data, &size);
    if (outcome != DONE)
        return outcome;
    return size == -1 ? append(out, "null", 4) : append_element(out, array->element, data, (size_t)size);
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

static bool begins_elsewhere(const Array *array)
{
    for (int i = 0; i < array->dimensions; i++) {
        if (array->lower[i] != 1)
            return true;
    }
    return false;
}

static Outcome take_literal(Block *out, Array *array)
{
    Block literal = {0};
    Outcome outcome = array_to_literal(&literal, array);
    if (outcome == DONE)
        outcome = append_string(out, literal.bytes, literal.size);
    free(literal.bytes);
    return outcome;
}

Outcome array_to_json(Block *out, const uint8_t *data, size_t size)
{
    Array array;
    if (!array_parse(&array, data, size))
        return MALFORMED;
    Outcome outcome = array.dimensions == 0      ? append(out, "[]", 2)
                      : begins_elsewhere(&array) ? take_literal(out, &array)
                                                 : take_dimension(out, &array, 0);
    return outcome == DONE && array.at != array.end ? MALFORMED : outcome;
}
