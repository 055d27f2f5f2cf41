"""Materialised tables: generations of partitions, what makes and checks them, and what is missing.

These are the functions behind Dagster's partitioned assets and asset checks
(https://docs.dagster.io/guides/build/partitions-and-backfills); the assets themselves are made in
`export_pipelines.orchestration.assets`.
"""
