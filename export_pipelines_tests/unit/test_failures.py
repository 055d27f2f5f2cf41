"""What a requester is told of a failure: what can be changed, never what is for operators."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export_pipelines.core.failures import explain_failure
from export_pipelines.destinations.email import is_address
from export_pipelines.pipeline.failures import recipients_of
from export_pipelines.pipeline.messages import failure_message


@pytest.mark.parametrize(
    "message",
    [
        "filters.date_range.end: '2026-13-01' is not a date such as 2026-01-31",
        "tables: there is no table 'petz'; did you mean pets?",
        "delivery.0.recipients.0: 'nobody' is not an email address",
        "config: is nested too deeply",
    ],
)
def test_what_the_requester_can_change_is_told_as_it_is(message: str) -> None:
    reported = explain_failure("request_rejected", message)
    assert reported.why == f"The export cannot be made as it was ordered. {message}"
    assert reported.next_step == "Change that and order the export again."


@pytest.mark.parametrize(
    ("error_type", "message", "why"),
    [
        ("request_rejected", "table pets is not isolated; run `export-pipelines catalog rls --apply`", "set up now"),
        ("request_rejected", "EXPORT_SOURCE_URL: is not set; give a postgresql:// URL", "set up now"),
        ("request_rejected", "split_files: the archive is larger than EXPORT_MAX_FILE_SIZE", "set up now"),
        ("request_rejected", "format: see s3://internal-bucket/x", "set up now"),
        ("request_rejected", "public.pets: has a new column", "set up now"),
        ("request_rejected", None, "set up now"),
        ("unavailable", "connection to 10.0.0.3 failed: password of login exporter", "did not answer"),
        ("integrity_violation", "tables: rows differ", "not exactly what the source holds"),
        ("internal", "unexpected KeyError; see the log of run 1", "unexpected fault"),
        ("lost", "the run vanished", "unexpected fault"),
        (None, None, "unexpected fault"),
    ],
)
def test_what_is_for_operators_is_not_passed_on(error_type: str | None, message: str | None, why: str) -> None:
    reported = explain_failure(error_type, message)
    assert why in reported.why
    assert "perators" in reported.next_step
    for word in (message or "nothing").split():
        if len(word) > 10:
            assert word not in reported.why + reported.next_step


WORDS = st.sampled_from(
    ["method", "email", "folder", "recipients", "a@b.cd", "a@b.cd\r\nBcc: x@y.z", "{{WHY}}", "\u202e"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
ENTRIES = st.lists(JSON | st.fixed_dictionaries({"method": WORDS, "recipients": JSON | st.lists(WORDS)}), max_size=30)


@settings(max_examples=40)
@given(delivery=ENTRIES | JSON, name=JSON, requester=st.none() | WORDS | st.text(), message=st.none() | st.text())
def test_whatever_was_ordered_only_sound_addresses_are_told_in_one_line_of_subject(
    delivery: Any, name: Any, requester: str | None, message: str | None
) -> None:
    for method, recipient, _ in recipients_of({"delivery": delivery, "name": name}, requester):
        assert method == "email"
        assert is_address(recipient)
    reported = failure_message(
        explain_failure("request_rejected", message),
        name=str(name),
        ordered_at="now",
        request_id="1",
        to_requester=True,
    )
    assert reported["subject"].isprintable()
