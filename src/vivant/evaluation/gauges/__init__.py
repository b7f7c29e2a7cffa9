"""What is measured in a running animation, one question per file. Definitions are in `metrics`."""
