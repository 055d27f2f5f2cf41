"""Whether files hold what the source held: validation in a run, verification by anybody later.

`validate` compares finished files with the database's figures before they are published. `verify` checks a package
without any service, and `published` does the same for what lies in the object store. Reading a format back belongs to
`export_pipelines.formats`, digests of rows to `export_pipelines.validation`.
"""
