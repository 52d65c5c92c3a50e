"""The binary codes of a network's ReLUs: read while the network runs, and kept as packed bits."""
