"""Packages for those who get them: opened, checked, and read as Arrow, pandas or polars tables with their types.

`opening` has `read`, `package` what it answers, `description` the facts of the manifest, `frames` what becomes of
Arrow in pandas and polars, `download` packages behind a link. Reading a format belongs to `export_pipelines.formats`,
checking to `export_pipelines.pipeline.verification`. Nothing here needs a database, a service or Dagster; an import
contract and a test say so.
"""

from export_pipelines.reader.description import Column, Table
from export_pipelines.reader.opening import read
from export_pipelines.reader.package import Package

__all__ = ["Column", "Package", "Table", "read"]
