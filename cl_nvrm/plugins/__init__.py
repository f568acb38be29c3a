"""Avalanche plug-ins that work in any Avalanche strategy; import them from their own modules."""
