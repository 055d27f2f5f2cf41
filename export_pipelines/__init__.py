"""Export Pipelines: verified, tenant-isolated data exports from PostgreSQL."""
