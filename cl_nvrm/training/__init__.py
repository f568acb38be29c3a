"""One spec in, one result out: what is built for a run, how it is trained, measured, recorded and checkpointed."""
