"""Rows on their way from where they are into canonical Parquet: the source, the lake, the control database."""
