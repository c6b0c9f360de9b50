"""The engine: options, stages, run contract, digests, sheets, sites, status and comparison. No torch here."""
