"""HTTP: the two chat APIs people have clients for, with the features of the model in every token."""
