"""A network read as linear operations and bends, and walked through from cell to cell."""
