"""Experiments on generalisation: what is done to images and labels before training, and what is read off after."""
