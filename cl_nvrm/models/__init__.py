"""Networks in plain torch, one file each; a file with a function ``model`` is listed by name."""
