"""Several programs at once, as users run them."""
