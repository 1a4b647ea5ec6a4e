"""All tests; each folder mirrors one of the tree."""
