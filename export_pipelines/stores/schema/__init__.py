"""The schema ``export_control`` as it is, a file of SQL for each concern, each object defined once.

A new database is made from these files, an old one by the steps of `export_pipelines.stores.migrations`; a test proves
that both are the same. Whoever changes a file here adds a step there.
"""
