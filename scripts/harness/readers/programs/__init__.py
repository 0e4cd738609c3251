"""Programs with a window that people use a camera in, proved by the pixels of a screenshot."""
