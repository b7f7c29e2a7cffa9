"""FlashPortrait (arXiv 2512.16900): a video diffusion transformer animates portraits of any length."""
