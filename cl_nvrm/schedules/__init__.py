"""Learning-rate schedules, one file each: the share of a task's epochs that is over, in [0, 1) → a factor on lr."""
