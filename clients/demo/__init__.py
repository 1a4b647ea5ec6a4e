"""The story of `make demo`: train, promote, serve, swap and roll back on real data, with a scikit-learn reference for every answer.

A client like any other: it starts the programs as a person would and talks to them over the wire.
"""
