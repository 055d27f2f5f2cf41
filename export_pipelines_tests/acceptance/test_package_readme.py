"""README.md of a package: whoever is no engineer finds what it is, what to open and what is missing, in plain words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from export_pipelines.formats.registry import all_formats
from export_pipelines_tests.workshop import TENANTS, Workshop

SPRING = {"date_range": {"start": "2024-03-01", "end": "2024-06-01"}}
# What only engineers say, or only a database; file names and columns stand in code and are not looked at.
JARGON = re.compile(
    r"\b(null|schema|sha|checksum|tenant|manifest|json|snapshot|uuid|timestamp|catalog|iso|sql)\b", re.IGNORECASE
)


def parts_of(folder: Path) -> tuple[str, str]:
    """For people, and for engineers."""
    people, line, engineers = (folder / "README.md").read_text().partition("\n# For engineers\n")
    assert line
    return people, engineers


def package(workshop: Workshop, **config: Any) -> Path:
    return workshop.package(workshop.export(config))


def test_the_first_part_says_what_people_want_to_know(workshop: Workshop) -> None:
    folder = package(workshop, tables=["appointments", "pets"], format="xlsx", name="Spring check", filters={})
    people, engineers = parts_of(folder)
    (path,) = (folder / "data").iterdir()
    assert people.startswith("# Spring check\n\nThis is a copy of data from Veterinary clinics: ")
    assert f"only what belongs to `{TENANTS[0]}`" in people
    assert re.search(r"\*\*As of:\*\* \d{1,2} [A-Z][a-z]+ \d{4}, \d\d:\d\d UTC\.", people)
    assert f"Open this file first: **`data/{path.name}`**" in people
    assert re.search(
        r"\| appointments \| Booked and requested visits \| [\d,]+ \| `data/spring-check\.xlsx` \|", people
    )
    assert "Open the workbook with Excel or LibreOffice." in people
    assert re.search(r"- appointments: \d+ rows? that had been deleted in the application\.", people)
    assert "Tables that are never exported: `login_sessions` (Credentials of open sessions" in people
    assert "Give them the export number" in people
    assert "It contains personal data." in people
    for engineering in (
        "sha256sum -c SHA256SUMS",
        "export-pipelines verify",
        "(timestamp with time zone)",
        "`left_out`",
    ):
        assert engineering not in people
        assert engineering in engineers


@pytest.mark.parametrize(
    ("filters", "period"),
    [
        (SPRING["date_range"], "1 March 2024 to 31 May 2024, both days included"),
        ({"start": "2024-03-01"}, "from 1 March 2024"),
        ({"end": "2024-03-01"}, "up to 29 February 2024"),
        (
            {"start": "2024-03-01T08:30:00Z", "end": "2024-03-02T00:00:00Z"},
            "from 1 March 2024, 08:30:00 (UTC) before 2 March 2024, 00:00:00 (UTC)",
        ),
    ],
)
def test_the_period_is_told_in_days_as_people_count_them(
    workshop: Workshop, filters: dict[str, str], period: str
) -> None:
    people, _ = parts_of(package(workshop, tables=["invoices"], format="csv", filters={"date_range": filters}))
    assert f"- **Period:** {period}." in people
    assert "- invoices: rows outside the period above, and those without a date." in people


@pytest.mark.parametrize("format_name", list(all_formats()))
def test_the_first_part_is_free_of_jargon_and_says_how_each_format_is_opened(
    workshop: Workshop, format_name: str
) -> None:
    people, _ = parts_of(package(workshop, tables=["pets", "medical_records"], format=format_name))
    assert all_formats()[format_name].how_to_open in people
    prose = re.sub(r"`[^`]*`|\([^)]*\)", "", people).replace("JSON files", "").replace("NDJSON files", "")
    assert JARGON.findall(prose) == []
    assert ("Do not open them with a double click" in people) == (format_name == "csv")


def test_many_files_are_told_by_the_first_and_the_last(workshop: Workshop) -> None:
    split = {"split_by": "month"}
    folder = package(workshop, tables=["invoices"], filters=SPRING, format="csv", compression="gzip", split_files=split)
    people, _ = parts_of(folder)
    assert "| 3 files, `data/invoices.2024-03.csv.gz` to `data/invoices.2024-05.csv.gz` |" in people
    assert "Unpack those that end in `.gz` first" in people
