"""Measurements, run by hand through the Makefile; pytest collects nothing here."""
