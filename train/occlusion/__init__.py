"""What hides faces: occluders, masks, compositing, the camera, and served views made of them."""
