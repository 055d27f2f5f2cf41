"""Small public schemas in our own words, with hostile values; each has several tenants."""

from __future__ import annotations

from pathlib import Path

import psycopg

FOLDER = Path(__file__).parent


def load_sample(url: str, name: str) -> None:
    """Fill an empty database from ``<name>.sql``."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute((FOLDER / f"{name}.sql").read_bytes())
