"""Which pages of Dagster's UI are measured, by their queries: first looks, with no state remembered, and later ones."""

from __future__ import annotations

from dagster import AssetKey

from benchmarks.results import Run
from benchmarks.scale.history import Partitions, forget_status, monthly_keys
from benchmarks.scale.place import Place
from benchmarks.scale.queries import Question, ask, backfill, questions
from benchmarks.scale.recording import Record, run_of
from export_pipelines.embedded.services import Services
from export_pipelines.pipeline.lake.partition_checks import ROWS


def pages(found: Place, services: Services, record: Record, partitions: Partitions) -> None:
    """Every page, several times."""
    assets = monthly_keys(found.catalog)
    asked = questions(assets, partitions, ROWS)
    ask(services, asked[0])  # the webserver's own first answer is of no page
    for question in asked:
        if question.cold:
            record.repeated(
                f"ui.{question.name}.cold",
                f"{question.label}, first look",
                lambda question=question: _cold(found, services, question, assets),
            )
        record.repeated(f"ui.{question.name}", question.label, lambda question=question: _asked(services, question))


def launch(found: Place, services: Services, record: Record, partitions: Partitions) -> None:
    """What comes after many runs were queued: their list, and a backfill."""
    assets = monthly_keys(found.catalog)
    runs = next(each for each in questions(assets, partitions, ROWS) if each.name == "runs")
    record.repeated("ui.runs.queued", "list of runs, many of them queued", lambda: _asked(services, runs))
    record.repeated(
        "ui.graph.queued", "states of assets, many runs queued", lambda: _asked(services, _graph(assets, partitions))
    )
    question = backfill(assets, partitions)
    record.repeated("ui.backfill", question.label, lambda: _asked(services, question))


def _graph(assets: list[AssetKey], partitions: Partitions) -> Question:
    return next(each for each in questions(assets, partitions, ROWS) if each.name == "graph")


def _cold(found: Place, services: Services, question: Question, assets: list[AssetKey]) -> Run:
    forget_status(found, assets)
    return _asked(services, question)


def _asked(services: Services, question: Question) -> Run:
    answer = ask(services, question)
    return run_of(answer.seconds, size_bytes=answer.size_bytes)
