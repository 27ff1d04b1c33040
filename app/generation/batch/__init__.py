"""The running batch: many requests decoded together by attune's own loop, with what steers and samples them."""
