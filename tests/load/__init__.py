"""Figures and endurance: run by `make bench`. The tests of what measures them are quick, and run by `make test` like all others."""
