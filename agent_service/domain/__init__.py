"""The pure core: no input or output, no framework, only values and the rules between them."""
