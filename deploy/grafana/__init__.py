"""The Grafana dashboards, written by `python -m deploy.grafana.generate`; none of this runs where Tidegate serves.

generate     the program: writes dashboards/*.json, or checks that they are up to date
panels       the few kinds of panel there are, and what all dashboards have in common
serving      requests, latency, queue, error budgets
drift        PSI and KS of every feature, and its bins beside the reference
fleet        which daemon has which versions, and what did not load
quality      what labels say about a version, and how many there are
"""
