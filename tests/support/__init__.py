"""Helpers that tests share, beside fixtures."""
