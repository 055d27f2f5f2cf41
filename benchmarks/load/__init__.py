"""The whole service under load: users who ask for exports through the API, and what each process costs meanwhile."""
