"""Films whose truth is known: how they are made, restored by the product and measured in the frame's own pixels."""
