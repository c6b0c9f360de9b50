"""One posed static scene: loaded, split, trained and evaluated."""
