"""The story of `make demo-drift`: a model of one winter meets the rest of the year, served month by month through the real daemon.

`months` reads what is served, `traffic` sends it and takes what the daemon counted, `chart` draws PSI, KS and AUC of every month; the story
in order is in `__main__`.
"""
