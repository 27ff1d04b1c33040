"""Value heads: rollouts of the base model, what they teach of beginnings and of next tokens, and how well."""
