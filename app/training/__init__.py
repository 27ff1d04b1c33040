"""Offline work: learning the bundled artifacts and measuring what they are worth."""
