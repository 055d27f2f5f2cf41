"""PostgreSQL's binary COPY into Arrow batches, in C. An optional part: `availability` says whether it was built.

The C files know neither SQL nor Arrow's libraries: `rows.c` and `numeric.c` turn bytes into buffers, `module.c` is
their Python face. What kind of column a PostgreSQL type is, is decided in `columns.py`.
"""
