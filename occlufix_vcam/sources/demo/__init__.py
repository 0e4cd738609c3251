"""Demo source: a moving portrait, and occluders in front of it."""
