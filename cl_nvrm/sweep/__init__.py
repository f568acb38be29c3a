"""Many specs into a store: workers, claims, run logs, tuning, trackers, and what can be asked of kept weights."""
