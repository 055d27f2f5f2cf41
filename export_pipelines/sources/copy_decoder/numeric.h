/* PostgreSQL's numeric on the wire: groups of four decimal digits; see numeric_send in its source. */
#ifndef EXPORT_PIPELINES_NUMERIC_H
#define EXPORT_PIPELINES_NUMERIC_H

#include "block.h"
#include "outcome.h"

#ifndef __SIZEOF_INT128__
#error "this decoder needs a compiler with 128-bit integers; without it exports read through ADBC"
#endif

enum { DECIMAL_MAX_PRECISION = 38 };

/* Append the 16 bytes of an Arrow decimal128(precision, scale). MISFIT when that could not be exact. */
Outcome numeric_to_decimal(Block *out, const uint8_t *data, size_t size, int precision, int scale);

/* Append the text that numeric_out prints. */
Outcome numeric_to_text(Block *out, const uint8_t *data, size_t size);

#endif
