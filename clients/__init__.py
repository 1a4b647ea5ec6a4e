"""Everything that calls: the published SDK (`python/`), the `tidegate` command (`cli/`), and the story of `make demo` (`demo/`)."""
