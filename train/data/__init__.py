"""Faces on disk: sets, shards, importers, labels, and the product's mask arithmetic."""
