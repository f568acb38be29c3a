"""The figures of the studies, one module a group; nothing here reads or writes a file."""
