"""Tests of the `tidegate` command, run as a person runs it: a process, its output and its exit code."""
