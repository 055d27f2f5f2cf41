"""Materialised tables: generations of partitions, what makes and checks them, what is missing."""
