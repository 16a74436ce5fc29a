"""Benchmarks: each module prints a table and a last line ``RESULT key=value ...``."""
