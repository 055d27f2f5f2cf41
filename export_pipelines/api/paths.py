"""Paths of the API that more than one of its modules names."""

from __future__ import annotations

JOBS = "/api/v1/exports/jobs"
HEALTH, READINESS = "/healthz", "/readyz"
HEALTH_PATHS = (HEALTH, READINESS)
