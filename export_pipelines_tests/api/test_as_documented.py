"""Calls made from the OpenAPI document, right and wrong ones: whatever comes back is what the document says."""

from __future__ import annotations

import warnings
from functools import cache
from http import HTTPStatus
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from export_pipelines_tests.api.rules import PUBLIC, RULES
from export_pipelines_tests.api.site import Site
from export_pipelines_tests.lanes import examples, some

EXAMPLES = examples(12)  # right ones and as many wrong ones for each route and role
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
]
ROUTES = sorted((method, path) for method, path in set(RULES) | PUBLIC if method != "HEAD")
RIGHT, WRONG = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE


@cache
def document(address: str) -> Any:
    return schemathesis.openapi.from_url(f"{address}/api/openapi.json")


def rejected(context: Any, response: Any, case: Any) -> bool | None:
    """Wrong data is refused; a body beyond the limit is refused before anybody looks at its data."""
    return (
        None
        if response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else negative_data_rejection(context, response, case)
    )


def _own(site: Site, method: str, path: str, who: str) -> dict[str, Any]:
    """Ids for the path that lead to something of the caller's; a batch is an admin's or nobody's."""
    saved = RULES[method, path].saved
    made = site.publish(who) if saved is None or (saved == "batch" and who != "chief") else site.save(saved, who)
    ids = dict.fromkeys(("job_id", "schedule_id", "template_id", "batch_id"), made.id)
    return {**ids, "link_id": made.link_id, "index": 0}


@pytest.mark.parametrize("who", some(["ann", "chief", "oscar"], ["chief"]))  # who may what is for another test
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_a_route_answers_as_the_document_says(site: Site, method: str, path: str, who: str) -> None:
    operation = document(site.address)[path][method]
    own = _own(site, method, path, who) if "_id}" in path and who != "oscar" else {}
    session = requests.Session()
    session.headers.update(site.client(who).headers)

    def call(case: Any, checks: list[Any]) -> None:
        if own and len(case.path_parameters) and case.meta.generation.mode is RIGHT:
            case.path_parameters = {name: own[name] for name in case.path_parameters}
        case.call_and_validate(base_url=site.address, session=session, checks=checks, timeout=20)

    reported = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the generators
        reported(given(case=operation.as_strategy(generation_mode=RIGHT))(lambda case: call(case, CHECKS)))()
        if operation.body or operation.query or operation.path_parameters:
            reported(
                given(case=operation.as_strategy(generation_mode=WRONG))(lambda case: call(case, [*CHECKS, rejected]))
            )()
    session.close()
