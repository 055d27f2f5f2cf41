"""What can be exported: reading the catalog's file, proposing one from a live database, comparing the two.

The catalog's shape and rules are `export_pipelines.core.catalog`; extraction itself belongs to `sources`.
"""
