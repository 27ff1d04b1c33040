"""The HTTP surface: resources of ours with problem+json errors, and OpenAI's chat completions."""
