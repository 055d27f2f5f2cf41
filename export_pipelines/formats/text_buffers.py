"""A column of texts as the bytes of a file.

For formats whose records are built as one text a row. Joining them with polars or Python would copy every byte twice;
Arrow keeps them one behind the other already.
"""

from __future__ import annotations

import polars as pl


def concatenated(texts: pl.Series) -> memoryview:
    """All texts of a column without gaps, UTF-8; NULL counts as empty."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())  # string views would lie scattered
    _, offsets, content = array.buffers()
    if not len(array) or content is None:
        return memoryview(b"")
    bounds = memoryview(offsets).cast("q")[array.offset : array.offset + len(array) + 1]
    return memoryview(content)[bounds[0] : bounds[-1]]
