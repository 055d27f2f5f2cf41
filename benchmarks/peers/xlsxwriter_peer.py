"""xlsxwriter with constant memory, its way for large sheets."""

import argparse

import xlsxwriter
from sheets import rows


def export(arguments: argparse.Namespace) -> None:
    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "default_date_format": "yyyy-mm-dd hh:mm:ss",
    }
    with xlsxwriter.Workbook(arguments.folder / "rows.xlsx", options) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(rows(arguments.input)):
            sheet.write_row(number, 0, row)
