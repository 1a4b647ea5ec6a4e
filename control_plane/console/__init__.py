"""The page for people at /. It reads the registry; everything it shows is also under /api/v1."""
