"""Questions for a decoder, with choices of which one is right, or with a free answer."""
