"""Tests of the registry: real folders, real processes."""
