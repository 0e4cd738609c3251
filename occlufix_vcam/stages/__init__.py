"""The stages of the pipeline, from finding a face to blending its restored part, one file each."""
