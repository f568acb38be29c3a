"""Report: a store as one HTML page, and as Markdown, LaTeX and CSV tables."""
