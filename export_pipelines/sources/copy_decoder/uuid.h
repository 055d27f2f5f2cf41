/* A uuid's canonical text. */
#ifndef EXPORT_PIPELINES_UUID_H
#define EXPORT_PIPELINES_UUID_H

#include <stdint.h>

enum { UUID_SIZE = 16, UUID_TEXT = 36 };

static inline void uuid_write(uint8_t *at, const uint8_t *data)
{
    static const char DIGITS[] = "0123456789abcdef";
    for (int i = 0; i < UUID_SIZE; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = (uint8_t)DIGITS[data[i] >> 4];
        *at++ = (uint8_t)DIGITS[data[i] & 15];
    }
}

#endif
