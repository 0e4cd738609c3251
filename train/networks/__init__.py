"""The networks, and the backbones that losses and figures see with."""
