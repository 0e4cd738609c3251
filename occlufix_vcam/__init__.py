"""OccluFix Camera: a virtual camera that restores the hidden part of a face, live."""

__version__ = "0.1.0"

#: Name of its folders.
APP_NAME = "occlufix-vcam"
