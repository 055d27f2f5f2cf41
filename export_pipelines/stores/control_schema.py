"""What the control database's schema is called, which files it is made of, and its newest revision."""

from __future__ import annotations

from functools import cache
from pathlib import Path

SCHEMA = "export_control"
DAGSTER_SCHEMA = "dagster"
API_ROLE = "export_api"

# In this order: a table is made before what refers to it, and requests before all that hangs on them.
FILES = (
    "session",
    "requests",
    "batches",
    "schedules",
    "templates",
    "quotas",
    "deliveries",
    "links",
    "audit",
    "access",
    "estimates",
    "metrics",
    "signing_keys",
    "service_state",
)

_HERE = Path(__file__).parent


def schema_script() -> str:
    """All of it as one script. Functions name tables that come later, so their bodies are not checked as they come."""
    parts = [(_HERE / "schema" / f"{name}.sql").read_text(encoding="utf-8") for name in FILES]
    return "\n".join(["SET LOCAL check_function_bodies = off;", *parts])


@cache
def head() -> str:
    """The newest revision this version knows: the number in the last step's file name."""
    steps = (_HERE / "migrations" / "versions").glob("v[0-9]*.py")
    return max(step.name.removeprefix("v").partition("_")[0] for step in steps)
