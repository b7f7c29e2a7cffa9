"""Training data: batches that are pure functions of (seed, rank, index), so that a resumed run sees the same."""
