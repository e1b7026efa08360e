"""A model, text and a site become a shuffled, resumable stream of activation vectors."""
