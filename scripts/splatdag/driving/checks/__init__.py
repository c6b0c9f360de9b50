"""Checks of logs and clips by figures and by eye."""
