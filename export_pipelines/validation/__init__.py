"""Is what was written what the source holds? Independent re-reads, comparison, and offline verification."""
