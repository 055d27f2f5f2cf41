"""Runs one peer and prints its seconds: `run.py PEER FORMAT FOLDER [--url URL --query SQL] [--input FILE]`.

The clock starts when the peer's libraries are loaded, as it does for the product. What cannot run says why.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path

PEERS = ("pandas", "dlt", "sling", "xlsxwriter", "openpyxl", "pyzipper")
ANSWER_CHARACTERS = 300


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("format")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--url", default="")
    parser.add_argument("--query", default="")
    parser.add_argument("--input", type=Path)
    arguments = parser.parse_args()
    try:
        peer = importlib.import_module(f"{arguments.peer}_peer")
        started = time.perf_counter()
        peer.export(arguments)
        answer = {"seconds": time.perf_counter() - started}
    except Exception as error:  # noqa: BLE001 - whatever stops a stranger's program is the finding
        answer = {"unavailable": _reason(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    return 1 if "unavailable" in answer else 0


def _reason(error: BaseException) -> str:
    """The innermost error: what wraps it only tells where it happened."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:ANSWER_CHARACTERS]}"


if __name__ == "__main__":
    sys.exit(main())
