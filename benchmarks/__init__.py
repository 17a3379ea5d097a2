"""How fast it is, side by side with what a user would do otherwise.

Each program measures both sides in one run over real HTTP and real stores, and
prints a table: `python -m benchmarks.rollback --quick`. `python -m benchmarks`
runs all and writes RESULTS.md.
"""
