"""What the papers predict, as pure functions."""
