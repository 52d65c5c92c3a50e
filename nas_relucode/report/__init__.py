"""The page, the pictures and the tables that show a study."""
