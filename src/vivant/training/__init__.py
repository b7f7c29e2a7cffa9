"""Training: one loop that knows no family, and what every family needs around it."""
