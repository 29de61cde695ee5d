"""What layers read on real prompts: the walk through the networks, records of it, and ranges chosen from them."""
