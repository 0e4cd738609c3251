"""Enrolled people: their views and embeddings, stored encrypted on this machine."""
