"""Drift: what all daemons counted, added up and judged, and the references that recording rules compare with counts over time.

fleet       counts of several daemons, added up and judged once
reference   references as metrics
routes      the call
"""
