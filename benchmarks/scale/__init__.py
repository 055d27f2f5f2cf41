"""Dagster with many partitions: ticks, dispatch and the queries of its UI, over an event log filled to that size."""
