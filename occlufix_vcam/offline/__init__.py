"""Work without a daemon: files to process, benchmarks, and engines to build and check."""
