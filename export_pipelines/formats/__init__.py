"""File formats, one module each, found by name.

A module here that defines ``SPEC`` is a format; its file name is the format's name. Adding one is adding a file.
"""
