"""Enrolling a person: choosing good views of a face, from a camera or from pictures."""
