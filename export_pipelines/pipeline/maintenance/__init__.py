"""What keeps a service healthy between exports: the sweep of leftovers, probes of source and store.

Called by Dagster's cleanup job, by commands and by health checks. What an export removes of itself when it ends belongs
to `export_pipelines.pipeline.attempt`.
"""
