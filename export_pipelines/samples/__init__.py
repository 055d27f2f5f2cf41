"""Ready-made source databases for demonstrations, tests and benchmarks.

Each folder is one sample: ``catalog.yaml``, ``schema.sql`` (tables, row-level security, rights) and ``generate.sql``
(rows). Loading them is in `export_pipelines.samples.loader`.
"""
