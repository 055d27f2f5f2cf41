"""From files to a package that people receive: documents, archive, visibility, delivery and removal.

How a document or an archive is written belongs to `export_pipelines.packaging`, how a message is sent to
`export_pipelines.destinations`.
"""
