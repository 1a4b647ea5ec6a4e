"""Live quality: what predictions were worth, by the labels that came later.

`join` reads the logs of the daemons, `measures` and `estimate` hold the formulas, `report` makes of the rows what is told, `assess` goes
from a model's name to that, and `routes` and `collector` tell it.
"""
