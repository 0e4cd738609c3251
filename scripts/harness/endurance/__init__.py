"""Endurance of the whole daemon in a PipeWire session: what `scripts/endurance.py` and its tests repeat."""
