"""What can be said about results: metrics of one run, statistics over runs."""
