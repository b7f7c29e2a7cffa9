"""Modules that two or more families use unchanged."""
