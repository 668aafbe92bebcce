"""Training: optimisers and their parameter groups, the learning rate's schedule, gradients of several batches."""
