"""The training recipe: batches, optimizer, loop, evaluation, checkpoints."""
