"""Which networks are equally accurate, in which order the code space puts them, and how firm that is."""
