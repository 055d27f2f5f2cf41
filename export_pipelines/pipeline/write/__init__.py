"""From canonical Parquet to the files of a format: nesting, splitting, and files of a limited size.

What a format writes is `export_pipelines.formats`; a new one is a module there and a line in its registry, not here.
"""
