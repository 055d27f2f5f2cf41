"""pyzipper: one file into a ZIP with AES-256."""

import argparse

import pyzipper


def export(arguments: argparse.Namespace) -> None:
    with pyzipper.AESZipFile(
        arguments.folder / "rows.zip", "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(b"benchmark")
        archive.write(arguments.input, arguments.input.name)
