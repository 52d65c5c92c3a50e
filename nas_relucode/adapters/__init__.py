"""The same score where another framework has the study."""
