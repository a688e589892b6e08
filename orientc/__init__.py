"""orientc."""
