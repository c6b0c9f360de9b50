"""Several people per scene: what the human trainer left, and recordings of it."""
