"""Names that the SQL of the source's modules shares."""

from __future__ import annotations

from psycopg import sql

ROW = "t0"  # alias of the table that is read, or of its figures
GUARD = "tenant of the row"  # a column of every result whose table has a tenant column; never exported
EQUALS = sql.SQL("OPERATOR(pg_catalog.=)")  # not one that somebody put into a schema on the search path
