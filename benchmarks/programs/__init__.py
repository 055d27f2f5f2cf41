"""Programs of the product that are measured, each run in a process of its own: prints one line of JSON at its end."""
