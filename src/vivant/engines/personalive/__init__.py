"""Streaming diffusion of portraits in micro-chunks (PersonaLive, arXiv 2512.11253). Read README.md first."""
