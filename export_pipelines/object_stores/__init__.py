"""Objects as bytes under keys: a local folder or S3."""
