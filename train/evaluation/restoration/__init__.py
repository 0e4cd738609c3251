"""Figures of restorers: cases, methods, meters."""
