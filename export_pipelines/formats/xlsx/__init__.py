"""Excel workbooks: how rows become sheets and are read back.

`workbook` is the writer and what the format declares, `columns` says which form a column has, `cells` how a value
becomes a cell, `sheets` and `parts` are the XML around rows, `long_texts` is for what no cell can hold; `reading` and
`cutting` read workbooks back and share no code with the writing half. Workbooks of other programs are a matter of
imports.
"""

from export_pipelines.formats.xlsx.workbook import SPEC

__all__ = ["SPEC"]
