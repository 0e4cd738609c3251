"""Endpoints by subject: enrolling, recording."""
