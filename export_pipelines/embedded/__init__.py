"""The PostgreSQL server that comes with this package, for those who bring none of their own.

Start with ``EmbeddedPostgres`` in ``postgres``; the other modules are its parts.
"""
