"""Puts restored faces into the frame: outline, what lies beyond the template, colours, sharpness and grain."""
