"""Scene memory: what was behind a thing that passes, in the frame's own pixels."""
