"""isoflop: pre-training at many sizes, with the price tag attached."""

__version__ = "0.1.0"
__distribution__ = "isoflop"
