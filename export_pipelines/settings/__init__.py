"""Settings from the environment; the only reader of it.

A module for each group of settings, put together as `Settings`. A new setting is one field of its group: the
environment variable, a description, unit and bounds. From there it reaches whoever holds the opened services
(``services.settings``), the configuration that Dagster's UI shows of a run, and `docs/settings.md`.
"""

from export_pipelines.settings.loading import Settings, load_settings

__all__ = ["Settings", "load_settings"]
