"""What a trained model can do: held-out loss, scores of texts, zero- to few-shot tasks, and a suite of them."""
