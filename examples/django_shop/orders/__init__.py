"""Orders, and what follows them."""
