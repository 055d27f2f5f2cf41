"""Containers as bytes: the one ZIP writer, AES for its entries, and readers that share nothing with the writers."""
