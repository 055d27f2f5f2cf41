/* PostgreSQL's arrays on the wire; see array_send in its source. */
#ifndef EXPORT_PIPELINES_ARRAY_H
#define EXPORT_PIPELINES_ARRAY_H

#include "block.h"
#include "outcome.h"

/* Append the JSON text that to_json prints for an array of integers, text, booleans or uuids. */
Outcome array_to_json(Block *out, const uint8_t *data, size_t size);

#endif
