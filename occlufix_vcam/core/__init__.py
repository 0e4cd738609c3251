"""What every room shares: frames, settings, errors, status, files, and handing over between threads."""
