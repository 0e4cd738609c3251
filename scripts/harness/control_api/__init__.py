"""The daemon with its control API in this process, ways to toggle it, and clients that load it."""
