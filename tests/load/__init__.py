"""Benchmarks and endurance: run by `make bench`, not by `make test`."""
