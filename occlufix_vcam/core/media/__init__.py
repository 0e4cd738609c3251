"""Files of pictures and films: reading and writing them with what they carry beside their pixels."""
