"""Several people per scene: results of the human trainer, and recordings of them."""
