"""The commands of `export-pipelines`, a module for each group. They parse, call and print."""
