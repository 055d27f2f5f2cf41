"""What an export costs that has next to no rows: the job in a warm process, its functions, the command line."""

from __future__ import annotations

import sys

from benchmarks.datasets import TENANT, Laboratory
from benchmarks.measuring import Contestant, interleaved
from benchmarks.ours import CSV_GZ, program
from benchmarks.results import Measurement
from benchmarks.suites import Sizes

ROWS = 1_000
JOBS, FUNCTIONS, COMMAND = "small.job", "small.functions", "small.command"


def measure(laboratory: Laboratory, sizes: Sizes) -> list[Measurement]:
    with laboratory.dataset("inv", ROWS) as dataset:
        config = CSV_GZ.config(["inv"])
        count = "10" if sizes.quick else "30"
        field = [
            program("small", config, "--count", count, dataset=dataset, name=JOBS, label="job, warm process"),
            program(
                "small",
                config,
                "--count",
                count,
                "--functions",
                dataset=dataset,
                name=FUNCTIONS,
                label="functions only",
            ),
            Contestant(
                name=COMMAND,
                label="export-pipelines export, from start to exit",
                command=[
                    *(sys.executable, "-c", "from export_pipelines.cli import main; main()", "export", "--json"),
                    *("--tenant", TENANT, "--tables", "inv", "--format", "csv", "--compression", "gzip"),
                ],
                environment=dataset.environment,
            ),
        ]
        return interleaved(field, repeat=sizes.repeat, scratch=laboratory.scratch, dataset="inv", rows=ROWS)
