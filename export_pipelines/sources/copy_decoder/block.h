/* A growing buffer in Arrow's sense, and loads of PostgreSQL's big-endian integers. */
#ifndef EXPORT_PIPELINES_BLOCK_H
#define EXPORT_PIPELINES_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "Arrow's buffers are little-endian, and so must the machine be; without this decoder exports read through ADBC"
#endif

typedef struct {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
    size_t expected; /* what the first allocation takes */
} Block;

enum { SMALLEST_BLOCK = 64 };

/* Room for `count` more bytes and their address, or NULL when there is no memory. The size grows by `count`. */
static inline uint8_t *block_extend(Block *block, size_t count)
{
    if (block->bytes == NULL || count > block->capacity - block->size) {
        size_t wanted = block->bytes == NULL ? block->expected : block->capacity * 2;
        if (wanted < block->size + count)
            wanted = block->size + count;
        if (wanted < SMALLEST_BLOCK)
            wanted = SMALLEST_BLOCK;
        uint8_t *moved = realloc(block->bytes, wanted);
        if (moved == NULL)
            return NULL;
        block->bytes = moved;
        block->capacity = wanted;
    }
    uint8_t *start = block->bytes + block->size;
    block->size += count;
    return start;
}

static inline uint16_t load16(const uint8_t *at)
{
    return (uint16_t)((at[0] << 8) | at[1]);
}

static inline uint32_t load32(const uint8_t *at)
{
    return ((uint32_t)load16(at) << 16) | load16(at + 2);
}

static inline uint64_t load64(const uint8_t *at)
{
    return ((uint64_t)load32(at) << 32) | load32(at + 4);
}

#endif
