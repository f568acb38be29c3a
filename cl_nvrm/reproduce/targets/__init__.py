"""One file a published table or figure; a file with a ``TARGET`` is found by its name."""
