"""An engine whose texts another OpenAI-compatible server writes."""
