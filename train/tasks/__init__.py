"""One network's training each: samples, step, export."""
