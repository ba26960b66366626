"""The limiters: who may ask next, with which key, and what a provider's answers say about it."""
