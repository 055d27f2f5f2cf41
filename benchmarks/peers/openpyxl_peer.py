"""openpyxl in write-only mode, its way for large sheets."""

import argparse

import openpyxl
from sheets import rows


def export(arguments: argparse.Namespace) -> None:
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet()
    for row in rows(arguments.input):
        sheet.append(row)
    book.save(arguments.folder / "rows.xlsx")
