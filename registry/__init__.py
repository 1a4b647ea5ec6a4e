"""The file-based registry: what was trained, what is served, who decided it and why.

One primitive stands under everything: put a file if it is absent. A model is a numbered log of commits, its state is the fold of that log,
and a bundle (the files of one version) becomes visible with the commit that names it. Start reading here:

    names         what a model, a version or a file may be called
    canonical     the one JSON encoding whose digest is stable
    fields        typed fields out of parsed JSON
    commit        one numbered entry of a model's log
    state         the fold of a log, a pure function
    rules         what may follow what, a pure function
    manifest      which files a version has, by digest
    bundle        the files a version may have, and their signature
    profile       the drift reference: frozen bins and the counts of the training rows
    drift         PSI, KS and their p-values over such counts
    store         the seam to storage; local_store keeps files durable on a local disk
    registry      the operations, wired to a store
    watch         waiting for a log to grow
    verify        re-reads everything and names what is wrong
    views         states, versions and commits as plain JSON, for people and programs
    errors        the error tree

`python -m registry` looks at a registry from a shell. The formats are described in docs/formats.

Imports no other folder of the project: daemon, control plane and training share this one and nothing else.
"""
