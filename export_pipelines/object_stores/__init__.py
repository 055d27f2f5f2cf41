"""Objects as bytes under keys: a local folder or S3, behind `export_pipelines.core.ports.ObjectStore`.

A new kind of store is a module here and a line in `opening`. Rows of the service belong to `export_pipelines.stores`.
"""
