"""What keeps a service healthy between exports: sweeping of leftovers, probes."""
