"""An engine in another process: what travels to it, and its client."""
