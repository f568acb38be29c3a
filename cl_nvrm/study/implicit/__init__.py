"""The small problems of label-noise SGD (Blanc et al. 2020): each, its training, and what the studies show of it."""
