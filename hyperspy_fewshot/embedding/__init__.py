"""From data to embeddings: the sample, the recipe, and the pass over the data."""
