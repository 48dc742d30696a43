"""Odyssey: search-space experiments over recurrent architectures."""
