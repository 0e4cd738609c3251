"""Figures of each network, and reports of them."""
