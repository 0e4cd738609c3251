"""Facts of the operating system: video devices, desktop portals, and this Linux machine."""
