"""MASA: reasoning models that foretell themselves, and spend rollouts by what they foretell."""
