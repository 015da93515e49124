"""The pure domain core: specs, catalogue, sizing, plans and rules, without I/O."""

__version__ = "0.1.0"
