"""The catalogue's data, read as package resources by `berth.catalog`; it holds no code."""
