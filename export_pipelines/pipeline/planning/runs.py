"""How a request and its run find each other: job, run config, tags and run key. The sensor and the API ask alike."""

from __future__ import annotations

from export_pipelines.stores.requests import ExportRequest

EXPORT_JOB = "export_job"
CONVERT_JOB = "convert_job"
REQUEST_TAG, ATTEMPT_TAG, TENANT_TAG = "export/request", "export/attempt", "export/tenant"
SIZE_TAG, LARGE = "export/size", "large"  # of which dagster.yaml lets only some run at once
MAX_RUNTIME_TAG = "dagster/max_runtime"
MAX_RUNTIME_SECONDS = 6 * 3600  # where nobody estimated
QUICK_SECONDS, LARGE_SECONDS = 30, 300
_PATIENCE = 20  # times the estimate
_LEAST_RUNTIME_SECONDS, _MOST_RUNTIME_SECONDS = 1800, 24 * 3600


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
        "dagster/priority": str(_priority(request)),
        MAX_RUNTIME_TAG: str(_max_runtime_seconds(request)),
        **({SIZE_TAG: LARGE} if (request.estimated_seconds or 0) >= LARGE_SECONDS else {}),
    }


def _priority(request: ExportRequest) -> int:
    """What was asked for decides; among equals, exports that take a moment go before those that take minutes."""
    quick = request.estimated_seconds is not None and request.estimated_seconds < QUICK_SECONDS
    return request.priority * 10 + (1 if quick else 0)


def _max_runtime_seconds(request: ExportRequest) -> int:
    """Generous, since an estimate knows nothing of the load: a run that hangs is to end, not one that is slow."""
    if request.estimated_seconds is None:
        return MAX_RUNTIME_SECONDS
    wanted = request.estimated_seconds * _PATIENCE
    return round(min(max(wanted, _LEAST_RUNTIME_SECONDS), _MOST_RUNTIME_SECONDS))


def run_key(request: ExportRequest) -> str:
    return f"req-{request.id}-{request.attempt}"
