"""How a request and its run find each other: job, run config, tags and run key. The sensor and the API ask alike."""

from __future__ import annotations

from export_pipelines.stores.requests import ExportRequest

EXPORT_JOB = "export_job"
CONVERT_JOB = "convert_job"
REQUEST_TAG, ATTEMPT_TAG, TENANT_TAG = "export/request", "export/attempt", "export/tenant"


def job_name(request: ExportRequest) -> str:
    """The job whose work the request is."""
    return CONVERT_JOB if "convert" in request.config else EXPORT_JOB


def run_config(request: ExportRequest) -> dict[str, object]:
    """Run config of that job."""
    plan = {"config": {"request_id": request.id}}
    if job_name(request) == CONVERT_JOB:
        return {"ops": {"plan_conversion": plan}}
    return {"ops": {"export": {"ops": {"plan": plan}}}}


def run_tags(request: ExportRequest) -> dict[str, str]:
    """Tags by which a run and its request find each other."""
    return {
        REQUEST_TAG: request.id,
        ATTEMPT_TAG: str(request.attempt),
        TENANT_TAG: request.tenant_id,
        "dagster/priority": str(request.priority),
    }


def run_key(request: ExportRequest) -> str:
    return f"req-{request.id}-{request.attempt}"
