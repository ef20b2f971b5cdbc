"""Documents are split, their parts counted side by side, and the counts put together when the last part is done."""
