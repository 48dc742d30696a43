"""The page of a study: live, as a server gives it, or at rest, one file. `page.py` says what it is made of."""
