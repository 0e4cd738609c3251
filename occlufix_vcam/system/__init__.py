"""What the operating system knows: video devices, desktop portals, and this Linux machine."""
