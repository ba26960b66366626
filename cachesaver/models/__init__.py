"""Models of providers and of libraries, one module each; every one is an extra of its own."""
