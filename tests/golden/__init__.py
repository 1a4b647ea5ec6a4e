"""Artefacts of released formats: they must stay readable, so nothing here is ever written again."""
