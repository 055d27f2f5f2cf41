"""Migration packages back into an empty database.

Which statements a package may hold is decided by `export_pipelines.packaging.ddl_statements`.
"""
