"""Alerts: what Alertmanager tells becomes notes in the logs of the models it is about, and is read from there."""
