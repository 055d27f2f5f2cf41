"""The service's own state: tables of the control database, a module for each kind of row.

`schema/*.sql` is what the database has, `migrations/` how an older one gets there. `control` is the service's own
connection, `tenant_session` the API's, under row-level security. Objects are `export_pipelines.object_stores`.
"""
