"""Drift: what the daemon counted, and the references that recording rules compare with counts of a whole fleet."""
