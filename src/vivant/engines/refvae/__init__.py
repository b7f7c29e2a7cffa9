"""Audio-driven portraits: a reference-guided deep-compression video VAE and an autoregressive generator."""
