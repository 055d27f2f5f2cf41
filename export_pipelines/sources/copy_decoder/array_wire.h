/* An array as it comes on the wire, and what its two texts have in common; see array_send in PostgreSQL's source. */
#ifndef EXPORT_PIPELINES_ARRAY_WIRE_H
#define EXPORT_PIPELINES_ARRAY_WIRE_H

#include "block.h"
#include "outcome.h"

enum { MOST_DIMENSIONS = 6 };
enum { OF_BOOL = 16, OF_INT8 = 20, OF_INT2 = 21, OF_INT4 = 23, OF_TEXT = 25, OF_VARCHAR = 1043, OF_UUID = 2950 }; /* types, by OID */

typedef struct {
    uint32_t element;
    int dimensions;
    uint32_t lengths[MOST_DIMENSIONS];
    int32_t lower[MOST_DIMENSIONS];
    const uint8_t *at, *end; /* of the elements that are left */
} Array;

bool array_parse(Array *array, const uint8_t *data, size_t size);

/* The next element: its bytes and their number, -1 for NULL. */
Outcome array_next(Array *array, const uint8_t **data, int32_t *size);

Outcome append(Block *out, const char *text, size_t size);

Outcome append_integer(Block *out, int64_t value);

/* An integer element of one of the three widths. */
Outcome append_integer_element(Block *out, uint32_t element, const uint8_t *data, size_t size);

/* Append the literal that array_out prints, such as [0:1]={1,2}. */
Outcome array_to_literal(Block *out, Array *array);

#endif
