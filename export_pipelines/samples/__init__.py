"""Ready-made source databases for demonstrations, tests and benchmarks.

Each folder is one sample: ``catalog.yaml``, ``schema.sql`` (tables, row-level security, rights), ``generate.sql``
(rows) and ``demo.yaml`` (what `demo` orders). The SQL files beside this module are for all of them. Loading is in
`export_pipelines.samples.loader`.
"""
