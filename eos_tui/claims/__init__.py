"""What papers say of the edge of stability, checked on small runs: one module a paper, and what they share."""
