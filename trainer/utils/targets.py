"""What stands in a batch where nothing is to be predicted."""

NOT_A_TARGET = -100  # PyTorch's `ignore_index`
