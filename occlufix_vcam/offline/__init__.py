"""Work without a daemon: processing files, benchmarks, and building and checking engines."""
