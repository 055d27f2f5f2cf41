/* PostgreSQL's arrays on the wire; see array_send in its source. */
#ifndef EXPORT_PIPELINES_ARRAY_H
#define EXPORT_PIPELINES_ARRAY_H

#include "block.h"
#include "outcome.h"

/* Append the JSON text that to_json prints for an array of integers, text, booleans or uuids; for one whose indexes do
 * not begin at 1, a JSON string of the literal that array_out prints. */
Outcome array_to_json(Block *out, const uint8_t *data, size_t size);

#endif
