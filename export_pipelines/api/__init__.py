"""The REST API and the pages behind links: a module for each group of routes, with their bodies and answers.

What several groups need lies in modules named after it, never in a route module. Rules of an export belong to
`export_pipelines.pipeline` and `export_pipelines.core`; rows to `export_pipelines.stores`.
"""
