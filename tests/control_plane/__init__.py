"""Tests of the control plane: a real process on a free port, driven over HTTP."""
