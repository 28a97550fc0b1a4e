"""Measurements of speed, apart from the study: `make bench` or `python -m benchmarks`."""
