"""Promises of `training`, on the real data of the example."""
