"""Diagnostics of this machine, and the steps that set it up."""
