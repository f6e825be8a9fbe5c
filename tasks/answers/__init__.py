"""Questions and answers on a decoder: the right one of several choices, or a free answer."""
