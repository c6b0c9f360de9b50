"""PandaSet's logs as they lie on disk."""
