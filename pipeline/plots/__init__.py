"""Figures: one function per picture, from arrays to a matplotlib figure; files are written by who asks for them."""
