"""Models as they stand in the registry: versions, states, logs, documents and cards. Everything here only reads."""
