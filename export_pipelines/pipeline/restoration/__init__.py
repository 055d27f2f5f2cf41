"""Migration packages back into a database."""
