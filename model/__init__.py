"""The model: embeddings that learn from a stream, one micro-batch at a time."""
