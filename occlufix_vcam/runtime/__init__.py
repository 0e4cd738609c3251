"""The daemon: its workers (capture, processing, output), and the supervisor that keeps them running."""
