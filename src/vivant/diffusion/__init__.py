"""Schedules and steps of diffusion and flow matching: stateless, torch only."""
