"""The `tidegate` command: what a person or a script says to the registry, the daemon, the control plane and training.

`main` knows the names of the commands and turns errors into one line and an exit code; each command stands in a module of its own,
imported when it is asked for, so that `tidegate --help` loads nothing heavy. `options` are the flags they share, `output` how answers
are written, `errors` what they refuse. Rules are not here: they are the registry's, the control plane's or training's.
"""
