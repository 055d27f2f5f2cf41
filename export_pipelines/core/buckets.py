"""Hash buckets of tenants: what the lake's partitions are by where there are too many tenants for one each.

A bucket's key says of how many it is. So when their number changes, nothing that was materialised under another number
counts as what it is not.
"""

from __future__ import annotations

import hashlib

MAX_PARTITIONS = 100_000  # of an asset, as Dagster's documentation advises; beyond, its pages and ticks become slow
MAX_BUCKETS = 1_000


def bucket_of(tenant_id: str, buckets: int) -> str:
    """The bucket of a tenant, the same on every machine: SHA-256 of its id, the first 64 bits modulo ``buckets``."""
    digest = hashlib.sha256(tenant_id.encode(errors="surrogatepass")).digest()
    return _key(int.from_bytes(digest[:8]) % buckets, buckets)


def bucket_keys(buckets: int) -> tuple[str, ...]:
    """All of them: ``000-of-128`` to ``127-of-128``; they sort as numbers do."""
    return tuple(_key(number, buckets) for number in range(buckets))


def advised_buckets(periods: int) -> int:
    """A number of buckets that leaves room for twice as many periods: a power of two, at most 128."""
    available = max(1, MAX_PARTITIONS // (2 * periods))
    return int(min(128, 1 << (available.bit_length() - 1)))


def _key(number: int, buckets: int) -> str:
    return f"{number:0{len(str(buckets - 1))}d}-of-{buckets}"
