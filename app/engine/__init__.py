"""The inference server's HTTP surface: candidates, basis rewards and guided answers. Knows no users."""
