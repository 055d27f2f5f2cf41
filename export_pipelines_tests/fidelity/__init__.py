"""Every PostgreSQL type in every format: one table of types that documents are made from and that tests prove."""
