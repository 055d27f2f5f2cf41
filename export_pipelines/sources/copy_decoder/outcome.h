/* What becomes of a value. */
#ifndef EXPORT_PIPELINES_OUTCOME_H
#define EXPORT_PIPELINES_OUTCOME_H

typedef enum {
    DONE,
    MALFORMED, /* not in its type's binary form */
    MISFIT,    /* sound, but its column cannot hold it */
    NO_MEMORY
} Outcome;

#endif
