"""Tests of the clients: the SDK and the command."""
