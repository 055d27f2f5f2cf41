"""What people are told: the subject and the text of each kind of message, and how templates are filled in."""

from __future__ import annotations

from export_pipelines.core.failures import FailureExplanation

UNNAMED = "Data export"
READY_SUBJECT = "Your export is ready: {{NAME}}"
READY = """Hello,

your export "{{NAME}}" is ready: {{ROWS}} rows, {{SIZE}}.

Download it here until {{EXPIRES_AT}}:
{{FILE_URL}}

Anyone with this link can download the files. Do not pass it on.
"""
PAUSED_SUBJECT = "Your scheduled export is paused: {{SCHEDULE}}"
PAUSED = """Hello,

your scheduled export "{{SCHEDULE}}" is paused:

{{REASON}}

Put it right, then resume the schedule.
"""
_FAILED_SUBJECT = "Your export failed: {{NAME}}"
_FAILED = """Hello,

your export "{{NAME}}" of {{ORDERED_AT}} failed. Nothing was published or delivered.

Why: {{WHY}}

What to do: {{NEXT_STEP}}

Export id: {{ID}}
"""
_NOT_COMING_SUBJECT = "An export meant for you failed: {{NAME}}"
_NOT_COMING = """Hello,

the export "{{NAME}}" of {{ORDERED_AT}}, which was to be delivered to you, failed. Nothing was published.

Why: {{WHY}}

What to do: Nothing. If you need the data, ask whoever ordered the export.

Export id: {{ID}}
"""


def failure_message(
    explanation: FailureExplanation, *, name: str, ordered_at: str, request_id: str, to_requester: bool
) -> dict[str, str]:
    """Subject and body, complete: what is told of a failure is decided when it is written, not with each try."""
    values = {
        "NAME": one_line(name) or UNNAMED,
        "ORDERED_AT": ordered_at,
        "WHY": explanation.why,
        "NEXT_STEP": explanation.next_step,
        "ID": request_id,
    }
    subject, body = (_FAILED_SUBJECT, _FAILED) if to_requester else (_NOT_COMING_SUBJECT, _NOT_COMING)
    return {"subject": one_line(fill(subject, values)), "body": fill(body, values)}


def one_line(text: str) -> str:
    """Without what could end a line of a header."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def fill(template: str, values: dict[str, str]) -> str:
    """Replace ``{{NAME}}`` by its value, once; values are never templates themselves."""
    parts = template.split("{{")
    filled = parts[0]
    for part in parts[1:]:
        name, closed, rest = part.partition("}}")
        known = closed and name.strip() in values
        filled += values[name.strip()] + rest if known else "{{" + part
    return filled
