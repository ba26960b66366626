"""`cachesaver demo`: a real ablation on a real language model, on this machine."""
