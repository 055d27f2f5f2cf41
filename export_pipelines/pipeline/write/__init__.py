"""From canonical Parquet to files of a format: splitting, nesting, sizes."""
