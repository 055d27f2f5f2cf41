/* Rows of PostgreSQL's binary COPY, decoded into Arrow's buffers. No Python here. */
#ifndef EXPORT_PIPELINES_ROWS_H
#define EXPORT_PIPELINES_ROWS_H

#include "block.h"
#include "outcome.h"

/* How a column's bytes become an Arrow column. Python names them by `KINDS` in module.c. */
typedef enum {
    BOOLEAN,
    INT16,
    INT32, /* float4 as well: the same bytes */
    INT64, /* float8 and time as well */
    DATE,
    TIMESTAMP,
    DECIMAL,
    NUMERIC,
    BYTES, /* text as well */
    JSONB,
    UUID,
    ARRAY,
    KIND_COUNT
} Kind;

typedef struct {
    Kind kind;
    int precision, scale; /* of DECIMAL */
    Block valid;          /* bits; empty while no value is NULL */
    Block offsets;        /* of kinds of varying length: 32 bits, the first is 0 */
    Block values;
    int64_t nulls;
} Column;

typedef struct {
    Column *columns;
    int width;
    int64_t rows;  /* of the batch in the making */
    size_t bytes;  /* of the wire they took */
    bool started;  /* the stream's header was read */
    bool finished; /* its trailer was read */
    const char *problem;
    int problem_column; /* -1: of the stream, not of a value */
} Rows;

bool kind_varies(Kind kind);

/* Decode one CopyData message: any number of whole rows. After anything but DONE the rows are of no more use. */
Outcome rows_decode(Rows *rows, const uint8_t *message, size_t size);

/* Complete the buffers of the batch: bitmaps reach the last row, offsets exist. */
bool rows_finish_batch(Rows *rows);

/* Forget the batch, whose buffers now belong to somebody else. */
void rows_begin_batch(Rows *rows);

void rows_free(Rows *rows);

#endif
