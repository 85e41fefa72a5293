"""What the client gets: the result document, and its renderings."""
