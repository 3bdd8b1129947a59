"""Mutation of the image: small defects, derived from its source and from its behaviour at run time."""
