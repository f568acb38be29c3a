"""What benchmarks of several tasks share: their scenarios, and images turned, framed or rescaled."""
