"""Rows on their way from where they are into canonical Parquet: the source, the lake, the control database.

Everything here answers "what did the export read?": the stage of an export, what it leaves out, and the stage that is
retained for conversions. How a row is read from PostgreSQL belongs to `export_pipelines.sources`; what becomes of the
stage belongs to `export_pipelines.pipeline.write`.
"""
