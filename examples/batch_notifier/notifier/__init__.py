"""Comments under articles, and what their readers hear of them."""
