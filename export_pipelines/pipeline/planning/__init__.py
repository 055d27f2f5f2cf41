"""What is decided before a run begins: plans, estimates, schedules, and which job a request needs.

The rules of a configuration by itself are `export_pipelines.core.configuration` and `export_pipelines.core.planning`;
here they meet the catalog, the source and what the service knows of past exports.
"""
