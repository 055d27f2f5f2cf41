"""The schema ``export_control``, step by step, applied by `export_pipelines.stores.migrate`."""
