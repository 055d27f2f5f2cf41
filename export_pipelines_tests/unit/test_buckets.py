"""Hash buckets of tenants: the same on every machine, and evenly filled."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from export_pipelines.core.buckets import MAX_BUCKETS, bucket_keys, bucket_of
from export_pipelines.orchestration.partitions import UNUSABLE_IN_KEYS

numbers = st.integers(1, MAX_BUCKETS)


def test_a_tenants_bucket_never_changes() -> None:
    """Literals: another answer than yesterday's would let Dagster believe that a tenant was materialised."""
    found = {tenant: bucket_of(tenant, 128) for tenant in ("1", "tenant-a", "Zürich", "")}
    assert found == {"1": "097-of-128", "tenant-a": "097-of-128", "Zürich": "053-of-128", "": "020-of-128"}


@given(st.text(), numbers)
def test_every_tenant_has_one_of_the_buckets(tenant: str, number: int) -> None:
    assert bucket_of(tenant, number) in bucket_keys(number)


@given(numbers)
def test_keys_are_distinct_sort_as_numbers_do_and_can_be_partition_keys(number: int) -> None:
    keys = bucket_keys(number)
    assert len(set(keys)) == number
    assert list(keys) == sorted(keys)
    assert not any(mark in key for key in keys for mark in UNUSABLE_IN_KEYS)


def test_a_key_of_another_number_of_buckets_is_another_key() -> None:
    assert not set(bucket_keys(128)) & set(bucket_keys(256))


def test_ten_thousand_tenants_fill_a_hundred_and_twenty_eight_buckets_evenly() -> None:
    filled = Counter(bucket_of(f"00000000-0000-4000-8000-{number:012d}", 128) for number in range(10_000))
    assert len(filled) == 128
    assert max(filled.values()) < 2 * 10_000 / 128
