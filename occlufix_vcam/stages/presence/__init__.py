"""Which faces are there and can be right: at the picture's edge, turned aside, behind others, or gone."""
