"""Where rows come from: a PostgreSQL database, read as one tenant under one snapshot."""
