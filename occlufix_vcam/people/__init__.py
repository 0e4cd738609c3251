"""The people who enrolled: their views and vectors, kept encrypted on this machine."""
