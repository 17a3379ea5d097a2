"""Programs that other people wrote, run so that none of their processes outlives us."""
