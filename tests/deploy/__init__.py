"""Tests of deploy: what the files say of the programs is held against the programs themselves. No Docker engine is needed, nor used."""
