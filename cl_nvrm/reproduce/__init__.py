"""Published numbers, run again: what was published, by which settings, and whether we get it."""
