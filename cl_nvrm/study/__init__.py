"""Named studies of generalisation and label noise: what to train at which scale, and the figure that shows it."""
