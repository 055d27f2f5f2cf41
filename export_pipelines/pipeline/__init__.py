"""The steps of one export as plain functions over the ports. Knows no Dagster and no web framework.

plan → stage → convert → validate → package → publish → deliver → finish; `export_pipelines.orchestration` runs them.
"""
