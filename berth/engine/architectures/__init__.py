"""The tensors of each architecture, as converters write them and the engine loads them."""
