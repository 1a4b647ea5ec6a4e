"""Promotions and rollbacks: what changes a model, each one commit. Which change is legal is the registry's to say (`registry.rules`)."""
