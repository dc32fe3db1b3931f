"""The second step: the training loop, its checkpoints, optimisers and schedules."""
