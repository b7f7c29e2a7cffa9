"""Proof that something is synthetic: an invisible watermark in the pixels, and signed content credentials (C2PA)."""
