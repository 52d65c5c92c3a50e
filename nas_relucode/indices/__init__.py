"""Numbers that say how the code space of a network looks, each one pure function, and the dict that names them."""
