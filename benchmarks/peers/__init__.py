"""Other programs for the same work, run by the Python of `.venv-bench`. Nothing of the product is imported here, and
nothing here is imported by the product or its tests.
"""
