"""A dictionary and text become feature pages: an index of all activations, statistics, examples, effects."""
