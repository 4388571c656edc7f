"""The commands of ``eftrain``, one a module; ``cli`` puts them together."""
