"""The Hydra config groups; importable so that an installed package finds them (``pkg://configs``)."""
