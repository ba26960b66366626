"""What `cachesaver.http` is made of: HTTP requests as prompts, and samples as HTTP answers."""
