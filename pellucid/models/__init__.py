"""A name becomes a model with named sites: fetch, convert, read and edit activations, stream text."""
