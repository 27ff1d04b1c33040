"""Quality against cost: what each way to answer is worth to simulated people, and how many tokens it takes."""
