#include "numeric.h"

typedef unsigned __int128 uint128;

enum { POSITIVE = 0x0000, NEGATIVE = 0x4000, NOT_A_NUMBER = 0xC000, INFINITE = 0xD000, NEGATIVE_INFINITE = 0xF000 };
enum { HEADER = 8, GROUP = 4, LARGEST_GROUP = 9999, LARGEST_SCALE = 0x3FFF };

typedef struct {
    int groups;
    int weight; /* the first group counts 10000^weight */
    int sign;
    int scale; /* digits to print after the point */
    const uint8_t *digits;
} Numeric;

#define E4(n) n, n * 10, n * 100, n * 1000
static const uint64_t POWERS[] = {
    E4(UINT64_C(1)), E4(UINT64_C(10000)), E4(UINT64_C(100000000)), E4(UINT64_C(1000000000000)),
    E4(UINT64_C(10000000000000000)),
};
#undef E4
enum { POWER_COUNT = sizeof POWERS / sizeof POWERS[0] };

static bool parse(Numeric *number, const uint8_t *data, size_t size)
{
    if (size < HEADER)
        return false;
    number->groups = load16(data);
    number->weight = (int16_t)load16(data + 2);
    number->sign = load16(data + 4);
    number->scale = load16(data + 6);
    number->digits = data + HEADER;
    if (size != HEADER + 2 * (size_t)number->groups || number->scale > LARGEST_SCALE)
        return false;
    switch (number->sign) {
    case POSITIVE:
    case NEGATIVE:
        break;
    case NOT_A_NUMBER:
    case INFINITE:
    case NEGATIVE_INFINITE:
        return number->groups == 0;
    default:
        return false;
    }
    for (int i = 0; i < number->groups; i++)
        if (load16(number->digits + 2 * i) > LARGEST_GROUP)
            return false;
    return true;
}

static uint128 power_of_ten(int exponent)
{
    return exponent < POWER_COUNT ? POWERS[exponent] : (uint128)POWERS[POWER_COUNT - 1] * POWERS[exponent - POWER_COUNT + 1];
}

/* value * 10^exponent + part, as long as it stays below 10^38. */
static bool shift_in(uint128 *value, int exponent, uint32_t part)
{
    if (*value < POWERS[15] && exponent <= GROUP) { /* by far most values: 64 bits do */
        *value = (uint64_t)*value * POWERS[exponent] + part;
        return true;
    }
    if (*value != 0) {
        if (exponent > DECIMAL_MAX_PRECISION || *value >= power_of_ten(DECIMAL_MAX_PRECISION - exponent))
            return false;
        *value *= power_of_ten(exponent);
    }
    *value += part;
    return true;
}

/* The number times 10^scale, as an integer; false when digits would be lost on either side. */
static bool unscaled(uint128 *value, const Numeric *number, int scale)
{
    int exponent = GROUP * number->weight + scale; /* of the group at hand: how many digits of ours follow it */
    *value = 0;
    for (int i = 0; i < number->groups; i++, exponent -= GROUP) {
        uint32_t group = load16(number->digits + 2 * i);
        int kept = exponent >= 0 ? GROUP : exponent > -GROUP ? GROUP + exponent : 0;
        if (kept < GROUP) {
            uint32_t divisor = (uint32_t)POWERS[GROUP - kept];
            if (group % divisor != 0)
                return false;
            group /= divisor;
        }
        if (!shift_in(value, kept, group))
            return false;
    }
    exponent += GROUP;
    return number->groups == 0 || exponent <= 0 || shift_in(value, exponent, 0);
}

Outcome numeric_to_decimal(Block *out, const uint8_t *data, size_t size, int precision, int scale)
{
    Numeric number;
    uint128 value;
    if (!parse(&number, data, size))
        return MALFORMED;
    if (number.sign != POSITIVE && number.sign != NEGATIVE)
        return MISFIT;
    if (!unscaled(&value, &number, scale))
        return MISFIT;
    if (value >= power_of_ten(precision))
        return MISFIT;
    if (number.sign == NEGATIVE)
        value = -value;
    uint8_t *at = block_extend(out, sizeof value);
    if (at == NULL)
        return NO_MEMORY;
    memcpy(at, &value, sizeof value);
    return DONE;
}

static void write_group(char *at, uint32_t group)
{
    at[0] = (char)('0' + group / 1000);
    at[1] = (char)('0' + group / 100 % 10);
    at[2] = (char)('0' + group / 10 % 10);
    at[3] = (char)('0' + group % 10);
}

static uint32_t group_at(const Numeric *number, int index)
{
    return index >= 0 && index < number->groups ? load16(number->digits + 2 * index) : 0;
}

static Outcome append_word(Block *out, const char *word)
{
    uint8_t *at = block_extend(out, strlen(word));
    if (at == NULL)
        return NO_MEMORY;
    memcpy(at, word, strlen(word));
    return DONE;
}

/* Digits behind the last one that is printed must not exist: they would be lost. */
static bool prints_whole(const Numeric *number)
{
    int fraction_groups = number->groups - number->weight - 1;
    int printed = (number->scale + GROUP - 1) / GROUP;
    if (fraction_groups > printed)
        return false;
    if (fraction_groups < printed || number->scale % GROUP == 0)
        return true;
    return group_at(number, number->groups - 1) % POWERS[GROUP - number->scale % GROUP] == 0;
}

Outcome numeric_to_text(Block *out, const uint8_t *data, size_t size)
{
    Numeric number;
    if (!parse(&number, data, size))
        return MALFORMED;
    switch (number.sign) {
    case NOT_A_NUMBER:
        return append_word(out, "NaN");
    case INFINITE:
        return append_word(out, "Infinity");
    case NEGATIVE_INFINITE:
        return append_word(out, "-Infinity");
    default:
        break;
    }
    if (!prints_whole(&number))
        return MALFORMED;
    int whole_groups = number.weight < 0 ? 1 : number.weight + 1;
    size_t before = out->size;
    char *start = (char *)block_extend(out, (size_t)(GROUP * whole_groups + number.scale + GROUP + 2));
    if (start == NULL)
        return NO_MEMORY;
    char *at = start;
    if (number.sign == NEGATIVE)
        *at++ = '-';
    char *first = at;
    for (int i = 0; i < whole_groups; i++, at += GROUP)
        write_group(at, number.weight < 0 ? 0 : group_at(&number, i));
    char *digit = first;
    while (digit < at - 1 && *digit == '0')
        digit++;
    memmove(first, digit, (size_t)(at - digit));
    at -= digit - first;
    if (number.scale > 0) {
        *at++ = '.';
        for (int printed = 0; printed < number.scale; printed += GROUP)
            write_group(at + printed, group_at(&number, number.weight + 1 + printed / GROUP));
        at += number.scale;
    }
    out->size = before + (size_t)(at - start);
    return DONE;
}
