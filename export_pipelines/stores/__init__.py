"""The service's own state: objects (local folder or S3) and rows in the control database."""
