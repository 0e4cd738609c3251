"""OccluFix Camera: a virtual camera that restores the hidden part of a face, live."""

__version__ = "0.1.0"

#: What its folders are called.
APP_NAME = "occlufix-vcam"
