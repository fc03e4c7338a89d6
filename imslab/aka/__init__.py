"""AKA: the algorithms of the card and the authentication centre, sequence numbers, vectors, and Digest AKA."""
