"""Types, rules and ports. Knows no Dagster, no SQL driver, no web framework.

Third-party imports allowed here: pyarrow and pydantic.
"""
