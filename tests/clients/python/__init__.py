"""Tests of the published Python client."""
