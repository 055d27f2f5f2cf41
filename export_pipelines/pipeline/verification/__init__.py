"""Whether files hold what the source held: validation in a run, verification by anybody later."""
