"""The settings of PostgreSQL that every session with a source or a target database pins, whoever connects.

How a session gets them is `export_pipelines.sources.session`'s business.
"""

from __future__ import annotations

# All that changes how PostgreSQL reads a statement or prints a value, whatever ALTER ROLE or ALTER DATABASE says.
# Any role may set them, in every version since 14. How literals are read comes first: the others are literals.
# Not lc_monetary: it decides what an amount of type money is, not only how it is printed.
SETTINGS = {
    "standard_conforming_strings": "on",
    "backslash_quote": "safe_encoding",
    "client_encoding": "UTF8",
    "search_path": "pg_catalog",
    "quote_all_identifiers": "off",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "timezone_abbreviations": "Default",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmloption": "content",
    "xmlbinary": "base64",
    "lc_numeric": "C",
    "lc_time": "C",
    "array_nulls": "on",
    "transform_null_equals": "off",
    "row_security": "on",
    "gin_fuzzy_search_limit": "0",  # any other leaves out rows at random
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
}

# What transactions are that an administrator's session begins without saying so.
TRANSACTION_DEFAULTS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
}
