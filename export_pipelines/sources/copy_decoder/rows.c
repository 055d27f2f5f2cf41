#include "rows.h"

#include "array.h"
#include "numeric.h"
#include "uuid.h"

static const uint8_t SIGNATURE[11] = "PGCOPY\n\377\r\n"; /* with its final NUL */
enum { HEADER_SIZE = sizeof SIGNATURE + 8, JSONB_VERSION = 1 };
static const uint32_t CRITICAL_FLAGS = 0xFFFF0000;

static const int32_t DAYS_TO_2000 = 10957;
static const int64_t MICROSECONDS_TO_2000 = INT64_C(946684800000000);

static const uint8_t WIDTHS[KIND_COUNT] = {
    [INT16] = 2, [INT32] = 4, [INT64] = 8, [DATE] = 4, [TIMESTAMP] = 8, [DECIMAL] = 16,
};

bool kind_varies(Kind kind)
{
    return kind == NUMERIC || kind == BYTES || kind == JSONB || kind == UUID || kind == ARRAY;
}

static bool append32(Block *block, uint32_t value)
{
    uint8_t *at = block_extend(block, sizeof value);
    if (at != NULL)
        memcpy(at, &value, sizeof value);
    return at != NULL;
}

static bool append64(Block *block, uint64_t value)
{
    uint8_t *at = block_extend(block, sizeof value);
    if (at != NULL)
        memcpy(at, &value, sizeof value);
    return at != NULL;
}

/* All bits up to and without `row` that were not written yet say "valid". */
static bool fill_valid(Column *column, int64_t rows)
{
    size_t wanted = (size_t)(rows + 7) / 8, missing = wanted - column->valid.size;
    if (column->valid.size >= wanted)
        return true;
    uint8_t *at = block_extend(&column->valid, missing);
    if (at != NULL)
        memset(at, 0xFF, missing);
    return at != NULL;
}

static bool mark_null(Column *column, int64_t row)
{
    if (!fill_valid(column, row + 1))
        return false;
    column->valid.bytes[row / 8] &= (uint8_t)~(1u << (row % 8));
    column->nulls++;
    return true;
}

static bool append_bit(Column *column, int64_t row, bool bit)
{
    if (row % 8 == 0) {
        uint8_t *at = block_extend(&column->values, 1);
        if (at == NULL)
            return false;
        *at = 0;
    }
    column->values.bytes[row / 8] |= (uint8_t)(bit << (row % 8));
    return true;
}

static Outcome append_null(Column *column, int64_t row)
{
    if (!mark_null(column, row))
        return NO_MEMORY;
    if (column->kind == BOOLEAN)
        return append_bit(column, row, false) ? DONE : NO_MEMORY;
    size_t width = WIDTHS[column->kind];
    uint8_t *at = block_extend(&column->values, width);
    if (at == NULL)
        return NO_MEMORY;
    memset(at, 0, width);
    return DONE;
}

/* Infinity and whatever leaves the range of the integer become its ends, which no calendar holds. */
static uint32_t date_since_1970(int32_t days)
{
    if (days == INT32_MIN || days > INT32_MAX - DAYS_TO_2000)
        return (uint32_t)(days < 0 ? INT32_MIN : INT32_MAX);
    return (uint32_t)(days + DAYS_TO_2000);
}

static uint64_t timestamp_since_1970(int64_t microseconds)
{
    if (microseconds == INT64_MIN || microseconds > INT64_MAX - MICROSECONDS_TO_2000)
        return (uint64_t)(microseconds < 0 ? INT64_MIN : INT64_MAX);
    return (uint64_t)(microseconds + MICROSECONDS_TO_2000);
}

static Outcome append_bytes(Block *values, const uint8_t *data, size_t size)
{
    uint8_t *at = block_extend(values, size);
    if (at == NULL)
        return NO_MEMORY;
    if (size > 0)
        memcpy(at, data, size);
    return DONE;
}

static Outcome append_uuid(Block *values, const uint8_t *data)
{
    uint8_t *at = block_extend(values, UUID_TEXT);
    if (at == NULL)
        return NO_MEMORY;
    uuid_write(at, data);
    return DONE;
}

static Outcome append_value(Column *column, int64_t row, const uint8_t *data, size_t size)
{
    Block *values = &column->values;
    if (WIDTHS[column->kind] != 0 && column->kind != DECIMAL && size != WIDTHS[column->kind])
        return MALFORMED;
    switch (column->kind) {
    case BOOLEAN:
        if (size != 1 || data[0] > 1)
            return MALFORMED;
        return append_bit(column, row, data[0]) ? DONE : NO_MEMORY;
    case INT16: {
        uint16_t value = load16(data);
        return append_bytes(values, (const uint8_t *)&value, sizeof value);
    }
    case INT32:
        return append32(values, load32(data)) ? DONE : NO_MEMORY;
    case INT64:
        return append64(values, load64(data)) ? DONE : NO_MEMORY;
    case DATE:
        return append32(values, date_since_1970((int32_t)load32(data))) ? DONE : NO_MEMORY;
    case TIMESTAMP:
        return append64(values, timestamp_since_1970((int64_t)load64(data))) ? DONE : NO_MEMORY;
    case DECIMAL:
        return numeric_to_decimal(values, data, size, column->precision, column->scale);
    case NUMERIC:
        return numeric_to_text(values, data, size);
    case BYTES:
        return append_bytes(values, data, size);
    case JSONB:
        return size > 0 && data[0] == JSONB_VERSION ? append_bytes(values, data + 1, size - 1) : MALFORMED;
    case UUID:
        return size == UUID_SIZE ? append_uuid(values, data) : MALFORMED;
    case ARRAY:
        return array_to_json(values, data, size);
    default:
        return MALFORMED;
    }
}

static Outcome close_value(Column *column)
{
    if (column->offsets.size == 0 && !append32(&column->offsets, 0))
        return NO_MEMORY;
    if (column->values.size > INT32_MAX)
        return MALFORMED;
    return append32(&column->offsets, (uint32_t)column->values.size) ? DONE : NO_MEMORY;
}

static Outcome malformed(Rows *rows, const char *problem)
{
    rows->problem = problem;
    rows->problem_column = -1;
    return MALFORMED;
}

/* One row from `*at` on, which moves behind it. */
static Outcome decode_row(Rows *rows, const uint8_t **at, const uint8_t *end)
{
    for (int i = 0; i < rows->width; i++) {
        Column *column = &rows->columns[i];
        if (end - *at < 4)
            return malformed(rows, "a row ends in the middle of a value's length");
        int32_t size = (int32_t)load32(*at);
        *at += 4;
        if (size < -1 || size > end - *at)
            return malformed(rows, "a value is longer than its row");
        Outcome outcome = size < 0 ? append_null(column, rows->rows)
                                   : append_value(column, rows->rows, *at, (size_t)size);
        if (outcome == DONE && kind_varies(column->kind))
            outcome = close_value(column);
        if (outcome != DONE) {
            rows->problem = outcome == MISFIT ? "a number has no exact decimal of its column's type"
                                              : "a value is not in its type's binary form";
            rows->problem_column = i;
            return outcome;
        }
        if (size > 0)
            *at += size;
    }
    rows->rows++;
    return DONE;
}

static Outcome read_header(Rows *rows, const uint8_t **at, const uint8_t *end)
{
    if (end - *at < HEADER_SIZE || memcmp(*at, SIGNATURE, sizeof SIGNATURE) != 0)
        return malformed(rows, "the stream does not begin like a binary COPY");
    if (load32(*at + sizeof SIGNATURE) & CRITICAL_FLAGS)
        return malformed(rows, "the stream's header has a flag that is not known here");
    uint32_t extension = load32(*at + sizeof SIGNATURE + 4);
    *at += HEADER_SIZE;
    if (extension > (size_t)(end - *at))
        return malformed(rows, "the stream's header is longer than its message");
    *at += extension;
    rows->started = true;
    return DONE;
}

Outcome rows_decode(Rows *rows, const uint8_t *message, size_t size)
{
    const uint8_t *at = message, *end = message + size;
    Outcome outcome = DONE;
    if (!rows->started && (outcome = read_header(rows, &at, end)) != DONE)
        return outcome;
    while (at < end) {
        if (rows->finished)
            return malformed(rows, "rows follow the stream's end");
        if (end - at < 2)
            return malformed(rows, "a row ends in the middle of its width");
        int width = (int16_t)load16(at);
        at += 2;
        if (width == -1) {
            rows->finished = true;
        } else if (width != rows->width) {
            return malformed(rows, "a row has another number of columns");
        } else if ((outcome = decode_row(rows, &at, end)) != DONE) {
            return outcome;
        }
    }
    rows->bytes += size;
    return DONE;
}

bool rows_finish_batch(Rows *rows)
{
    for (int i = 0; i < rows->width; i++) {
        Column *column = &rows->columns[i];
        if (column->nulls > 0 && !fill_valid(column, rows->rows))
            return false;
        if (kind_varies(column->kind) && column->offsets.size == 0 && !append32(&column->offsets, 0))
            return false;
    }
    return true;
}

/* The next batch's block: about as large as the last one became. */
static Block successor(const Block *block)
{
    return (Block){.expected = block->size + block->size / 8};
}

void rows_begin_batch(Rows *rows)
{
    for (int i = 0; i < rows->width; i++) {
        Column *column = &rows->columns[i];
        column->valid = successor(&column->valid);
        column->offsets = successor(&column->offsets);
        column->values = successor(&column->values);
        column->nulls = 0;
    }
    rows->rows = 0;
    rows->bytes = 0;
}

void rows_free(Rows *rows)
{
    for (int i = 0; i < rows->width; i++) {
        free(rows->columns[i].valid.bytes);
        free(rows->columns[i].offsets.bytes);
        free(rows->columns[i].values.bytes);
    }
    free(rows->columns);
    rows->columns = NULL;
    rows->width = 0;
}
