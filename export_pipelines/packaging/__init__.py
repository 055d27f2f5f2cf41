"""From finished data files to a package a stranger can check: compression, digests, documents, archive."""
