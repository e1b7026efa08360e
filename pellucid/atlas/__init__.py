"""A dictionary and text become feature pages: statistics, examples, promoted tokens."""
