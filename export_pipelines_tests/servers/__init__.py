"""Real servers for tests: an S3 service and a mail server, each in processes of its own."""
