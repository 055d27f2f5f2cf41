"""What the product costs, beside PostgreSQL's own client and other programs. Run by `make bench`, never by the tests.

`export_pipelines_tests/benchmarks` proves the instruments on tiny sizes: clocks, samplers, arithmetic, the report.
"""
